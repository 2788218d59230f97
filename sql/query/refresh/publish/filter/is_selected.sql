-- The condition that a member fulfils the filter of a subscription.
-- part of: refresh/publish/list_all_members

  and t.ctid operator(pg_catalog.=) any (select a.place from segmenter_audience as a)
