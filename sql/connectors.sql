-- Foreign servers of this wrapper are connections to platforms, and user mappings hold their secrets.
create foreign data wrapper segmenter_http no handler validator segmenter_http_validator;
comment on foreign data wrapper segmenter_http is 'connections to which messages are sent by HTTP';

insert into segmenter_connectors (name, description, spec, is_builtin)
select b.name, b.description, b.spec, true from segmenter_builtin_connectors() b;

create trigger segmenter_check before insert or update or delete on segmenter_connectors
    for each row execute function segmenter_check_connector();
comment on trigger segmenter_check on segmenter_connectors is 'checks the spec of a connector, and that built-in ones and those in use stay';
create trigger segmenter_keep before truncate on segmenter_connectors
    for each statement execute function segmenter_check_connector();
comment on trigger segmenter_keep on segmenter_connectors is 'keeps built-in connectors from TRUNCATE';
