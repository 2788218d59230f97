-- Whether all changed ids are among those that have expired.
-- runs as: segment owner
-- row: are_all boolean
select not exists (
    select c.id from changed as c
    except
    select e.id from segmenter_expired as e
) as are_all
