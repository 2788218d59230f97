alter table @table@ add constraint @check@ check (segment_id = @segment_id@)
