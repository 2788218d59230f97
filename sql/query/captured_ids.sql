select s.id::@type@ as id from segmenter_captured as s where s.number operator(pg_catalog.=) @number@
