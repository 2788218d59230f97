-- Grants on the relations that version 2 of the definition adds.
-- runs as: set owner
revoke all on @handovers@, @withheld@, @reports@, @state@, @counts@, @attempts@, @alerts@, @alert_states@, @definitions@, @secret@, @kept_out@, @current@ from public;
grant select on @handovers@, @reports@, @state@, @attempts@, @alerts@, @alert_states@, @definitions@, @current@ to public;
grant
    insert (id, consumer_id, rule, owner_name, actual_begin, actual_end),
    update (id, consumer_id, rule, owner_name, actual_begin, actual_end)
    on @alerts@ to public
