"""The comparison of the cluster test identifiers, which see.

    identifiers.py VALUES SEED

The server is the one at PGHOST. Prints "ok NAME" or "not ok NAME: why"; exits with 1 after the latter.
"""
from __future__ import annotations

import random
import sys
import unicodedata
from collections.abc import Callable
from types import ModuleType

import psycopg
from checks import Connection, Wrong, must, rows
from psycopg.rows import dict_row

# The library of Google imports what encrypts, and with it half of its cloud.
sys.modules["google.ads.datamanager_util.encrypt"] = encrypt = ModuleType("encrypt")
encrypt.Encrypter = type("Encrypter", (), {})  # type: ignore[attr-defined]

import phonenumbers
from facebook_business.adobjects.helpers.customaudiencemixin import CustomAudienceMixin
from facebook_business.adobjects.serverside.normalize import Normalize
from google.ads.datamanager_util import Formatter

google = Formatter()
meta = Normalize.normalize
Key = CustomAudienceMixin.Schema.MultiKeySchema

INVISIBLE = "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2064\u2066\u206f\ufeff\x01\x7f"
BLANKS = " \t\n\r\x0b\x0c\x85\u00a0\u1680\u2000\u2001\u2002\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
LETTERS = "abcxyzABCXYZ019._-+'éÉßçÄöñИванПётр정山İıσΣ"


def or_none(call: Callable[[], str | None]) -> str | None:
    """What a library raises an error for cannot be an identifier."""
    try:
        return call() or None
    except (TypeError, ValueError):
        return None


def without_blanks(text: str) -> str:
    return unicodedata.normalize("NFC", "".join(c for c in text if c not in INVISIBLE and c not in BLANKS))


def trimmed(text: str) -> str:
    visible = "".join(" " if c in BLANKS else c for c in text if c not in INVISIBLE)
    return unicodedata.normalize("NFC", visible).strip()


def ascii_only(call: Callable[[str], str], text: str) -> str:
    """On purpose: of an e-mail address only A to Z become small letters. The library does not see the others."""
    others = sorted({c for c in text if ord(c) > 127})
    hidden = str.maketrans({c: chr(0xE000 + n) for n, c in enumerate(others)})
    shown = str.maketrans({chr(0xE000 + n): c for n, c in enumerate(others)})
    return call(text.translate(hidden)).translate(shown)


# --- What the libraries give --------------------------------------------------------------

def email_google(text: str, _: str | None) -> str | None:
    # On purpose: blanks within an address go, where the library refuses it.
    return or_none(lambda: ascii_only(google.format_email_address, without_blanks(text)))


def email_meta(text: str, _: str | None) -> str | None:
    address = without_blanks(text)
    # On purpose: what has two "@", or an empty name in its domain, is no address.
    if address.count("@") != 1 or "" in address.split("@")[1].split("."):
        return None
    return or_none(lambda: ascii_only(lambda it: meta("em", it, False), address))


def phone(text: str, country: str | None) -> str | None:
    def possible(value: str, region: str | None) -> phonenumbers.PhoneNumber | None:
        try:
            number = phonenumbers.parse(value, region)
        except phonenumbers.NumberParseException:
            return None
        is_local = phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE_LOCAL_ONLY
        return number if phonenumbers.is_possible_number(number) and not is_local else None

    value = without_blanks(text)
    found = possible(value, country)
    # On purpose, where the library sees no number: "00" is a plus, and a number without a country is international if it is valid.
    if not found and value.startswith("00"):
        found = possible("+" + value[2:], None)
    elif not found and not country:
        found = possible("+" + value, None)
        found = found if found and phonenumbers.is_valid_number(found) else None
    return phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164) if found else None


def name_google(text: str, _: str | None) -> str | None:
    # On purpose: the library keeps punctuation, which the description of the field forbids.
    plain = "".join(c for c in trimmed(text) if unicodedata.category(c)[0] not in "PS")
    return or_none(lambda: unicodedata.normalize("NFC", google.format_given_name(plain)))


def name_meta(text: str, _: str | None) -> str | None:
    # On purpose: the library drops all letters but A to Z; the guide of Meta keeps those of every script.
    if not trimmed(text).isascii():
        return (name_google(text, None) or "").replace(" ", "") or None
    return CustomAudienceMixin.normalize_key(Key.fn, trimmed(text).strip().lower()) or None


def city_meta(text: str, _: str | None) -> str | None:
    return CustomAudienceMixin.normalize_key(Key.ct, trimmed(text).lower()) or None


def city_google(text: str, _: str | None) -> str | None:
    return or_none(lambda: unicodedata.normalize("NFC", google.format_city(trimmed(text))).strip())


def zip_meta(text: str, _: str | None) -> str | None:
    return or_none(lambda: meta("zp", without_blanks(text), False))


def zip_google(text: str, _: str | None) -> str | None:
    return or_none(lambda: google.format_postal_code(trimmed(text)))


def country_meta(text: str, _: str | None) -> str | None:
    return or_none(lambda: meta("country", without_blanks(text), False))


def country_google(text: str, _: str | None) -> str | None:
    # On purpose: what is no country is none. The library takes all that is two characters long.
    return or_none(lambda: google.format_region_code(without_blanks(text))) if Normalize.is_valid_country_code(without_blanks(text)) else None


# --- Messy values ----------------------------------------------------------------------------

class Mess:
    def __init__(self, dice: random.Random) -> None:
        self.dice = dice

    def some(self, letters: str, most: int) -> str:
        return "".join(self.dice.choice(letters) for _ in range(self.dice.randint(0, most)))

    def dirty(self, text: str) -> str:
        """With blanks at its ends, and now and then within it."""
        dice = self.dice
        around = [self.some(BLANKS + INVISIBLE, 2) if dice.random() < 0.3 else "" for _ in range(2)]
        if text and dice.random() < 0.1:
            place = dice.randrange(len(text))
            text = text[:place] + dice.choice(BLANKS + INVISIBLE) + text[place:]
        if dice.random() < 0.1:
            text = unicodedata.normalize("NFD", text)
        return around[0] + text + around[1]

    def email(self) -> tuple[str, str | None]:
        dice = self.dice
        user = self.some(LETTERS, 9)
        domain = dice.choice(["gmail.com", "Gmail.com", "GOOGLEMAIL.COM", "yandex.ru", "mail.example.co.uk", "пример.рф", "localhost", "", ".ru", "a..b"])
        at = dice.choices(["@", "", "@@"], [20, 1, 1])[0]
        return self.dirty(user + at + domain), None

    def phone(self) -> tuple[str, str | None]:
        dice = self.dice
        region = dice.choice(sorted(phonenumbers.SUPPORTED_REGIONS)) if dice.random() < 0.6 else dice.choice(["RU", "US", "GB", "DE", "KZ", "IT", "BR", "MX", "AR", "FR"])
        kind = dice.choice([phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.TOLL_FREE])
        number = phonenumbers.example_number_for_type(region, kind) or phonenumbers.example_number(region)
        text = phonenumbers.format_number(number, dice.choice([0, 1, 2])) if number else self.some("0123456789", 12)
        for _ in range(dice.choice([0, 0, 0, 1, 2])):
            place = dice.randrange(len(text) + 1)
            text = text[:place] + dice.choice(["", dice.choice("0123456789"), "-", "(0)", "/", ".", "—"]) + text[place + dice.randint(0, 1):]
        if dice.random() < 0.15:
            text = text.replace("+", dice.choice(["00", "", "＋", "011", "810", "8"]), 1)
        if dice.random() < 0.05:
            text = text.translate(str.maketrans("0123456789", dice.choice(["٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９"])))
        if dice.random() < 0.03:
            text = dice.choice([text + " ext. 5", "tel:" + text, "call me", text + "abc"])
        return self.dirty(text), dice.choice([region, region, region, None, dice.choice(["RU", "US"])])

    def text(self) -> tuple[str, str | None]:
        words = [self.some(LETTERS.replace("019", "") + ",—’&", 8) for _ in range(self.dice.randint(1, 2))]
        return self.dirty(" ".join(words)), None

    def zip(self) -> tuple[str, str | None]:
        return self.dirty(self.some("0123456789", 6) + self.dice.choice(["", "-", " "]) + self.some("0123456789AByz", 4)), None

    def country(self) -> tuple[str, str | None]:
        return self.dirty(self.dice.choice(["", "-", "."]).join(self.some("ruUSGBdEx1", 2) for _ in range(self.dice.randint(1, 2)))), None


Expected = Callable[[str, str | None], str | None]
CASES: list[tuple[str, Callable[[Mess], tuple[str, str | None]], str, Expected]] = [
    ("e-mail addresses, Google", Mess.email, "segmenter_email(value, 'google')", email_google),
    ("e-mail addresses, Meta", Mess.email, "segmenter_email(value, 'meta')", email_meta),
    ("phone numbers", Mess.phone, "segmenter_phone(value, country)", phone),
    ("names, Google", Mess.text, "segmenter_identifier('first_name', value, 'google')", name_google),
    ("names, Meta", Mess.text, "segmenter_identifier('last_name', value, 'meta')", name_meta),
    ("cities, Meta", Mess.text, "segmenter_identifier('city', value, 'meta')", city_meta),
    ("states, Google", Mess.text, "segmenter_identifier('state', value, 'google')", city_google),
    ("zips, Meta", Mess.zip, "segmenter_identifier('zip', value, 'meta')", zip_meta),
    ("zips, Google", Mess.zip, "segmenter_identifier('zip', value, 'google')", zip_google),
    ("countries, Meta", Mess.country, "segmenter_identifier('country', value, 'meta')", country_meta),
    ("countries, Google", Mess.country, "segmenter_identifier('country', value, 'google')", country_google),
]


def compare(db: Connection, mess: Mess, count: int, made: Callable[[Mess], tuple[str, str | None]], call: str, expected: Expected) -> str:
    db.execute("create temp table messy (n int, value text, country text) on commit drop")
    values = [made(mess) for _ in range(count)]
    with db.cursor().copy("copy messy from stdin") as copy:
        for n, (value, country) in enumerate(values):
            copy.write_row((n, value, country))
    found = rows(db, f"select {call} as found from messy order by n")
    wrong = [(value, country, row["found"], right) for (value, country), row in zip(values, found, strict=True) if row["found"] != (right := expected(value, country))]
    must(not wrong, f"{len(wrong)} of {count} differ", *wrong[:10])
    some = sum(row["found"] is not None for row in found)
    must(count // 20 < some < count, "too few or too many values are identifiers", some)
    return f"{count} values, {some} of them identifiers"


def main() -> int:
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    mess, failed = Mess(random.Random(seed)), 0
    with psycopg.connect(dbname="postgres", user="postgres", autocommit=True, row_factory=dict_row) as db:
        db.execute("create extension segmenter")
        for name, made, call, expected in CASES:
            try:
                with db.transaction():
                    print(f"ok {name}: {compare(db, mess, count, made, call, expected)}", flush=True)
            except Wrong as wrong:
                failed = 1
                print(f"not ok {name}, seed {seed}: {wrong}", flush=True)
    return failed


sys.exit(main())
