-- Changes columns of the segment $1.
-- runs as: caller
-- params: segment uuid, description text, table_oid oid, owner oid, refresh_auto boolean, refresh_params jsonb, refresh_cron text, refresh_timezone text, sources jsonb, guards jsonb, exclude jsonb
-- @assignments@: the columns, e.g. description = $2, table_name = $3::oid::regclass, owner = $4::oid::regrole, refresh_auto = $5, refresh_params = $6, refresh_cron = $7, refresh_timezone = $8, sources = $9, guards = $10, exclude = $11
update @segments@ s
set @assignments@
where s.id = $1
