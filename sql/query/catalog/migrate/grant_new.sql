-- Grants on the relations that version 2 of the definition adds.
-- runs as: set owner
revoke all on @handovers@, @withheld@, @reports@, @state@, @counts@, @attempts@, @definitions@, @secret@, @kept_out@, @current@ from public;
grant select on @handovers@, @reports@, @state@, @attempts@, @definitions@, @current@ to public
