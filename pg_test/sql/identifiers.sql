-- Identifiers in the forms of ad platforms. What the forms are is tested in core/src/identifier, and against the platforms'
-- own libraries in pg_test/cluster/identifiers; here what a caller sees.
\set VERBOSITY default
select p as platform, segmenter_email(' Anna.K+shop@Gmail.com', p), segmenter_phone('8 (912) 345-67-89', 'RU', p),
    segmenter_identifier('first_name', E'Anna-\u00a0Maria', p) as name, segmenter_identifier('country', 'ru', p) as country
from unnest(array[null, 'meta', 'google', 'yandex', 'vk', 'tiktok', 'linkedin', 'snapchat', 'pinterest', 'criteo']) p;
select k as kind, segmenter_identifier(k, v), segmenter_identifier(k, v, 'meta') as for_meta
from (values ('first_name', 'O''Brien'), ('last_name', 'Наталья'), ('city', 'New York'), ('state', 'NY '), ('zip', '94035-1234'), ('country', 'us'),
    ('birth_date', '1990-5-7'), ('mobile_ad_id', 'AB1E2345-6789-0ABC-DEF0-1234567890AB'), ('external_id', ' A 1 ')) v (k, v);
select a as algorithm, segmenter_hash('mail@yandex.ru', a) from unnest('{sha256,sha256_base64,sha512,sha1,md5}'::text[]) a;
-- What is null, or cannot be one.
select segmenter_email(null), segmenter_email(''), segmenter_email('none', 'meta'), segmenter_phone(null), segmenter_phone('8 912 345-67-89'),
    segmenter_phone('12', 'RU'), segmenter_identifier('zip', null), segmenter_identifier('country', 'Russia'), segmenter_hash(null), segmenter_hash('');
-- A country that there is not is none.
select segmenter_phone('+7 912 345-67-89', 'Russia'), segmenter_phone('8 912 345-67-89', 'Russia'), segmenter_phone('8 912 345-67-89', '');
-- Errors name what is wrong.
select segmenter_email('a@b.c', 'facebook');
select segmenter_phone('+79123456789', platform => 'META');
select segmenter_identifier('email', 'a@b.c');
select segmenter_identifier(null, 'a@b.c');
select segmenter_identifier('zip', '1', '');
select segmenter_hash('a', 'sha256sum');
select segmenter_hash('a', null);
-- Neither the collation nor another setting decides.
set lc_time = 'C';
set extra_float_digits = -15;
select segmenter_email('ÄI@X.DE'), segmenter_identifier('last_name', 'ÄÖÜẞΣ');
reset all;
-- An index may have them, and so may the condition of a subscription and a generated column.
create table contacts (id int, email text, phone text, hash_email text generated always as (segmenter_hash(segmenter_email(email))) stored);
create index on contacts (segmenter_hash(segmenter_phone(phone, 'RU')));
insert into contacts values (1, 'A@b.ru', '89123456789');
select id, left(hash_email, 8) as hash_email from contacts;
select proname, provolatile, proparallel from pg_proc where proname ~ '^segmenter_(email|phone|identifier|hash)$' order by 1;
drop table contacts;
-- Huge texts.
select segmenter_email(repeat(' a', 1000000) || '@b.c') is not null as email, segmenter_phone(repeat('1', 1000000)) is null as phone,
    length(segmenter_identifier('last_name', repeat('É', 1000000))) as name;
-- Every role may call them.
create role nobody_special;
set role nobody_special;
select segmenter_email('A@b.c'), segmenter_phone('+79123456789'), segmenter_identifier('zip', '1'), left(segmenter_hash('a'), 8);
reset role;
drop role nobody_special;
