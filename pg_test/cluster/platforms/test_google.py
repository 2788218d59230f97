"""Tests of the server of Google; google-ads-datamanager and google-auth drive it, where they are installed."""
from __future__ import annotations

import json
import time
import unittest
from typing import Any

from . import jwt
from .case import Case
from .client import Client, hashes, sha256
from .google import JWT_BEARER, SCOPE, TOKEN_URL, Google

try:
    import google.auth.transport.requests
    import google.oauth2.credentials
    import google.oauth2.service_account
    from google.ads import datamanager_v1
    from google.ads.datamanager_v1.services.ingestion_service.transports import IngestionServiceRestTransport
    from google.ads.datamanager_v1.services.user_list_service.transports import UserListServiceRestTransport
except ImportError:
    datamanager_v1 = None


class TestGoogle(Case):
    def setUp(self) -> None:
        self.server = self.serve(Google())
        self.lists = f"/v1/accountTypes/GOOGLE_ADS/accounts/{self.server.account}/userLists"
        self.client = Client(self.server.url)
        self.sign_in()
        info = {"uploadKeyTypes": ["CONTACT_ID"], "contactIdInfo": {"dataSourceType": "DATA_SOURCE_TYPE_FIRST_PARTY"}}
        body = {"displayName": "vip", "membershipDuration": "864000s", "ingestedUserListInfo": info}
        self.audience = self.client.call("POST", self.lists, body).json["id"]

    def grant(self, **form: str) -> Any:
        return self.client.call("POST", "/token", form, kind="form")

    def refresh(self) -> Any:
        return self.grant(grant_type="refresh_token", client_id=self.server.client_id, client_secret=self.server.client_secret,
                          refresh_token=self.server.refresh_token)

    def sign_in(self) -> None:
        self.client.headers["Authorization"] = "Bearer " + self.refresh().json["access_token"]

    def body(self, values: list[str], **more: Any) -> dict[str, Any]:
        account = {"accountType": "GOOGLE_ADS", "accountId": self.server.account}
        members = [{"userData": {"userIdentifiers": [{"emailAddress": value}]}} for value in values]
        return {"destinations": [{"operatingAccount": account, "productDestinationId": self.audience}], "audienceMembers": members,
                "encoding": "HEX", **more}

    def ingest(self, values: list[str], **more: Any) -> Any:
        terms = {"customerMatchTermsOfServiceStatus": "ACCEPTED"}
        return self.client.call("POST", "/v1/audienceMembers:ingest", self.body(values, **{"termsOfService": terms, **more}))

    def status(self, reply: Any) -> Any:
        query = {"requestId": reply.json["requestId"]}
        return self.client.call("GET", "/v1/requestStatus:retrieve", query=query).json["requestStatusPerDestination"][0]

    def there(self) -> set[Any]:
        return self.server.members(self.audience, "emailAddress")

    def refused(self, reply: Any, status: int, reason: str) -> None:
        error = reply.json["error"]
        self.assertEqual((reply.status, error["code"], error["details"][0]["reason"]), (status, status, reason), error)

    def test_members(self) -> None:
        reply = self.ingest(hashes(3))
        self.assertEqual(self.status(reply)["requestStatus"], "PROCESSING")
        done = self.status(reply)
        self.assertEqual(done["requestStatus"], "SUCCESS")
        self.assertEqual(done["audienceMembersIngestionStatus"]["userDataIngestionStatus"]["recordCount"], "3")
        body = self.body(hashes(1))
        self.assertEqual(self.client.call("POST", "/v1/audienceMembers:remove", body).status, 200)
        self.assertEqual(self.there(), set(hashes(2, 1)))
        self.no_faults(self.server)

    def test_mark_and_sweep(self) -> None:
        self.ingest(hashes(4))
        begun = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begun)) + f"{begun % 1:.6f}"[1:] + "Z"
        self.ingest(hashes(3, 2))
        sweep = {"destinations": self.body([])["destinations"], "removeAsOfTime": stamp}
        self.assertEqual(self.client.call("POST", "/v1/audienceMembers:removeAll", sweep).status, 200)
        self.assertEqual(self.there(), set(hashes(3, 2)))
        sweep["removeAsOfTime"] = "2999-01-01T00:00:00Z"
        self.refused(self.client.call("POST", "/v1/audienceMembers:removeAll", sweep), 400, "INVALID_FORMAT")
        self.bug(self.server, "no time in the past")
        del sweep["removeAsOfTime"]
        self.client.call("POST", "/v1/audienceMembers:removeAll", sweep)
        self.assertEqual(self.there(), set())
        self.no_faults(self.server)

    def test_identifiers(self) -> None:
        a, b = hashes(2)
        address = {"givenName": a, "familyName": b, "regionCode": "US", "postalCode": "94045"}
        members = [{"userData": {"userIdentifiers": [{"emailAddress": a}, {"phoneNumber": b}, {"address": address}]}}]
        self.ingest([], audienceMembers=members)
        self.assertEqual(self.server.members(self.audience, "emailAddress", "phoneNumber", "postalCode"), {(a, b, "94045")})
        self.ingest(["UJ6TMBm7KFoTSpM0uLtnnf950M4CPVKa9L10TUe0/Yo="], encoding="BASE64")
        self.assertIn(sha256("alexz@example.com"), self.there())
        self.no_faults(self.server)

    def test_strict(self) -> None:
        good = hashes(1)[0]

        def member(*identifiers: Any) -> dict[str, Any]:
            return {"userData": {"userIdentifiers": list(identifiers)}}

        for change, reason, pattern in (
            ({"audienceMembers": [member({"emailAddress": good.upper()})]}, "INVALID_SHA256_FORMAT", "lower-case"),
            ({"audienceMembers": [member()]}, "REQUIRED_FIELD_MISSING", "without identifiers"),
            ({"audienceMembers": [member(*[{"emailAddress": good}] * 11)]}, "TOO_MANY_USER_IDENTIFIERS", "11"),
            ({"audienceMembers": [member({"addressInfo": {}})]}, "INVALID", "addressInfo"),
            ({"audienceMembers": [member({"emailAddress": good})] * 10001}, "TOO_MANY_AUDIENCE_MEMBERS", "10001"),
            ({"audience_members": []}, "INVALID_ARGUMENT", "unknown audience_members"),
            ({"encoding": "hex"}, "INVALID", "hex"),
            ({"consent": {"adUserData": "yes"}}, "INVALID", "yes"),
            ({"destinations": []}, "TOO_MANY_DESTINATIONS", "0 destinations"),
        ):
            with self.subTest(pattern):
                reply = self.ingest([good], **change)
                self.assertEqual(reply.status, 400)
                self.assertIn(reason, reply.json["error"]["details"][0]["reason"])
                self.bug(self.server, pattern)
        self.assertEqual(self.there(), set())
        self.refused(self.ingest([good], termsOfService={}), 400, "TERMS_AND_CONDITIONS_NOT_SIGNED")
        self.ingest([good], validateOnly=True)
        self.assertEqual(self.there(), set())

    def test_lists(self) -> None:
        self.ingest(hashes(2))
        found, = self.client.call("GET", self.lists).json["userLists"]
        self.assertEqual((found["id"], found["displayName"], found["sizeInfo"]["searchNetworkMembersCount"]), (self.audience, "vip", "2"))
        self.assertEqual(self.client.call("GET", f"{self.lists}/{self.audience}").json["name"][-len(self.audience):], self.audience)
        self.assertEqual(self.client.call("DELETE", f"{self.lists}/{self.audience}").json, {})
        self.refused(self.client.call("DELETE", f"{self.lists}/{self.audience}"), 404, "NOT_FOUND")
        self.refused(self.ingest(hashes(1)), 400, "INVALID_DESTINATION")
        self.refused(self.client.call("GET", self.lists.replace(self.server.account, "1")), 403, "PERMISSION_DENIED")
        self.no_faults(self.server)

    def test_tokens(self) -> None:
        self.server.expire_tokens()
        self.refused(self.ingest(hashes(1)), 401, "ACCESS_TOKEN_EXPIRED")
        self.sign_in()
        self.assertEqual((self.ingest(hashes(1)).status, self.server.grants), (200, {"refresh_token": 2}))
        self.server.configure(token_lifetime=0.05)
        self.sign_in()
        time.sleep(0.06)
        self.refused(self.ingest(hashes(1)), 401, "ACCESS_TOKEN_EXPIRED")
        self.server.revoke()
        self.assertEqual((self.refresh().status, self.refresh().json["error"]), (400, "invalid_grant"))
        reply = self.grant(grant_type="refresh_token", client_id="x", client_secret="y", refresh_token="z")
        self.assertEqual((reply.status, reply.json["error"]), (401, "invalid_client"))
        self.no_faults(self.server)
        reply = self.client.call("POST", "/token", {"grant_type": "refresh_token"})
        self.assertEqual((reply.status, reply.json["error"]), (400, "invalid_request"))
        self.bug(self.server, "content type")
        self.assertNotIn(self.server.refresh_token, json.dumps(self.server.requests))

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(time.time())
        return {"iss": self.server.service_account, "scope": SCOPE, "aud": TOKEN_URL, "iat": now, "exp": now + 3600, **more}

    def test_service_account(self) -> None:
        key = self.server.service_account_key()
        header = {"alg": "RS256", "typ": "JWT", "kid": key["private_key_id"]}

        def grant(**more: Any) -> Any:
            return self.grant(grant_type=JWT_BEARER, assertion=jwt.sign(key["private_key"], header, self.claims(**more)))

        token = grant().json["access_token"]
        self.assertEqual(self.client.call("GET", self.lists, headers={"Authorization": f"Bearer {token}"}).status, 200)
        self.assertEqual(self.server.grants["jwt_bearer"], 1)
        self.no_faults(self.server)
        now = int(time.time())
        for more, error in (({"aud": "https://example.com"}, "invalid_request"), ({"scope": "all"}, "invalid_scope"),
                            ({"exp": now + 7200}, "invalid_grant"), ({"iat": now - 7200}, "invalid_grant"),
                            ({"more": 1}, "invalid_request")):
            self.assertEqual(grant(**more).json["error"], error, more)
            self.server.faults.pop()
        self.assertEqual(grant(iss="x@example.com").json["error"], "invalid_grant")
        forged = jwt.sign(key["private_key"], header, self.claims())[:-8] + "AAAAAAAA"
        self.assertEqual(self.grant(grant_type=JWT_BEARER, assertion=forged).json["error_description"], "Invalid JWT Signature.")
        self.bug(self.server, "Signature")

    def test_signatures_by_openssl(self) -> None:
        private, public = jwt.make_key()
        _, _, signed, signature = jwt.parse(jwt.sign(private, {}, {}))
        for check in (jwt.is_signed, jwt.is_signed_by_openssl):
            self.assertTrue(check(public, signed, signature))
            self.assertFalse(check(public, signed + b".", signature))

    def test_faults(self) -> None:
        self.server.configure(limit_per_minute=2)
        self.server.reset()
        replies = [self.ingest(hashes(1)) for _ in range(3)]
        self.refused(replies[2], 429, "RATE_LIMIT_EXCEEDED")
        self.assertIn("quota_limit", replies[2].json["error"]["details"][0]["metadata"])
        self.assertEqual(self.server.exceeded, 1)
        self.server.configure(limit_per_minute=None)
        self.server.fail_next("fail_processing", path="ingest")
        failed = self.ingest(hashes(1, 5))
        self.server.settle()
        self.assertEqual(self.status(failed)["requestStatus"], "FAILED")
        self.server.fail_next("partial", path="ingest")
        partial = self.ingest(hashes(2, 8))
        self.server.settle()
        self.assertEqual(self.status(partial)["requestStatus"], "PARTIAL_SUCCESS")
        self.assertEqual(self.there(), {*hashes(1), *hashes(1, 8)})
        self.no_faults(self.server)

    @unittest.skipIf(datamanager_v1 is None, "google-ads-datamanager is not installed")
    def test_vendor_client(self) -> None:
        request = google.auth.transport.requests.Request()
        account = google.oauth2.service_account.Credentials.from_service_account_info(self.server.service_account_key(), scopes=[SCOPE])
        account.refresh(request)
        credentials = google.oauth2.credentials.Credentials(
            None, refresh_token=self.server.refresh_token, token_uri=f"{self.server.url}/token",
            client_id=self.server.client_id, client_secret=self.server.client_secret)
        credentials.refresh(request)
        host = self.server.url.removeprefix("http://")
        v1 = datamanager_v1
        lists = v1.UserListServiceClient(transport=UserListServiceRestTransport(host=host, credentials=account, url_scheme="http"))
        people = v1.IngestionServiceClient(transport=IngestionServiceRestTransport(host=host, credentials=credentials, url_scheme="http"))
        made = lists.create_user_list(parent=f"accountTypes/GOOGLE_ADS/accounts/{self.server.account}", user_list={
            "display_name": "theirs", "ingested_user_list_info": {"upload_key_types": ["CONTACT_ID"]}})
        account = {"account_type": "GOOGLE_ADS", "account_id": self.server.account}
        destination = {"operating_account": account, "product_destination_id": str(made.id)}
        members = [{"user_data": {"user_identifiers": [{"email_address": value}]}} for value in hashes(2)]
        answer = people.ingest_audience_members({
            "destinations": [destination], "audience_members": members, "encoding": "HEX",
            "terms_of_service": {"customer_match_terms_of_service_status": "ACCEPTED"}})
        people.remove_audience_members({"destinations": [destination], "audience_members": members[:1], "encoding": "HEX"})
        self.assertEqual(self.server.members(str(made.id), "emailAddress"), set(hashes(1, 1)))
        states = [people.retrieve_request_status({"request_id": answer.request_id}).request_status_per_destination[0] for _ in range(2)]
        self.assertEqual([state.request_status.name for state in states], ["PROCESSING", "SUCCESS"])
        people.remove_all_audience_members({"destinations": [destination]})
        listed = lists.list_user_lists(parent=f"accountTypes/GOOGLE_ADS/accounts/{self.server.account}")
        self.assertEqual([u.display_name for u in listed], ["vip", "theirs"])
        lists.delete_user_list(name=made.name)
        self.assertEqual(self.server.deleted[str(made.id)]["members"], [])
        self.no_faults(self.server)
