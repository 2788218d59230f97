-- A text that a spreadsheet does not take for a formula: an apostrophe comes before one that could be, unless it is a
-- number, or a SHA-256 hash in Base64.
-- part of: delivery/take/list_members
-- @value@: the text, e.g. t.id
pg_catalog.regexp_replace(
    (@value@) collate pg_catalog."C",
    '^(?=[-=+@[:cntrl:]])(?!(?:[-+][0-9]+(?:[.][0-9]+)?|[+][A-Za-z0-9+/]{42}=)$)',
    ''''
)
