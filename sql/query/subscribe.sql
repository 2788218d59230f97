insert into @subscriptions@ (consumer_id, segment_id, target, params) values ($1, $2, $3, $4) returning id
