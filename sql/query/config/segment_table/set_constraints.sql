-- Says when deferrable constraints are checked, until the (sub)transaction ends.
-- runs as: table owner
-- @constraints@: their names, e.g. all
-- @when@: immediate or deferred, e.g. immediate
set constraints @constraints@ @when@
