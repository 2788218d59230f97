-- Cancels the statement of the process $1, which PostgreSQL refuses where the caller has not the right to.
-- runs as: caller
-- params: pid integer
-- row: is_cancelled boolean
select pg_cancel_backend($1) as is_cancelled
