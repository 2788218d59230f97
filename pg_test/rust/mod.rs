//! Tests that run in the server, each in a transaction that is rolled back. (Tests beside the code they are
//! about run in the same way.)

use std::time::Duration;

use pgrx::datum::{Timestamp, Uuid};
use pgrx::prelude::*;

use pgrx::datum::DatumWithOid;
use segmenter_core::connector::Limits;
use segmenter_core::query_file::QueryFile;

use crate::catalog::connectors::Connection;
use crate::catalog::extension::Extension;
use crate::catalog::queries;
use crate::catalog::query::Query;
use crate::catalog::relation_set::RelationSet;
use crate::catalog::state::{self, LostRun};
use crate::error::{Error, Result};
use crate::pg::clock;
use crate::pg::exec::implied::Implied;
use crate::pg::exec::kept::Kept;
use crate::pg::exec::role::{self, Rights, Settings};
use crate::pg::exec::segment_calls::Readers;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::subtransaction::{OnSuccess, in_subtransaction};
use crate::pg::exec::{statement, tuplestore as relation};
use crate::pg::system_catalog;

fn one<T: FromDatum + IntoDatum>(sql: &str) -> T {
    Spi::get_one(sql).expect("a query").expect("a value")
}

fn run(sql: &str) {
    Spi::run(sql).expect("a statement");
}

fn settings() -> Settings {
    Settings { search_path: "pg_catalog".into(), timezone: "Europe/Berlin".into(), session: None }
}

fn shop() {
    run("create schema crm");
    run("create table crm.people as select g as id, md5(g::text) as hash_email, g % 2 = 0 as vip
         from generate_series(1, 100) g");
    run(
        "select segmenter_create_segment('vip', 'select id, hash_email from crm.people where vip')",
    );
}

#[pg_extern]
fn a_failed_subtransaction_is_undone_and_its_error_complete() {
    run("create table t (x int)");
    let result: Result<()> = in_subtransaction(OnSuccess::Commit, || {
        run("insert into t values (1)");
        run(
            "do $$ begin raise exception 'no way' using errcode = 'SG001', detail = 'd', hint = 'h'; end $$",
        );
        Ok(())
    });
    let Err(Error::Postgres(report)) = result else { panic!("must fail") };
    assert_eq!(report.sqlstate(), "SG001");
    assert_eq!(report.message, "no way");
    assert_eq!((report.detail.as_deref(), report.hint.as_deref()), (Some("d"), Some("h")));
    assert!(report.context.expect("a context").contains("PL/pgSQL function"));
    assert_eq!(one::<i64>("select count(*) from t"), 0);
}

/// plpgsql's `raise` without arguments calls no error context callback, a notice does.
#[pg_extern]
fn an_error_that_is_raised_again_is_complete() {
    let raised = |code: &str| {
        let result: Result<()> = in_subtransaction(OnSuccess::Commit, || {
            run(&format!(
                "do $$ begin
                     begin raise exception 'first' using errcode = '{code}';
                     exception when others then
                         begin perform 1 / 0; exception when others then null; end;
                         raise notice 'second';
                         raise;
                     end;
                 end $$"
            ));
            Ok(())
        });
        let Err(Error::Postgres(report)) = result else { panic!("must fail") };
        let context = report.context.clone().expect("a context");
        assert!(context.contains("at RAISE"), "{context}");
        (report.sqlstate(), report.message)
    };
    assert_eq!(raised("SG001"), ("SG001".into(), "first".into()));
    assert_eq!(raised("40001"), ("40001".into(), "first".into()));
}

/// An error that another attempt has recorded is not taken for the one that was caught.
#[pg_extern]
fn nested_attempts_record_their_own_errors() {
    let fail = |code: &str| {
        let result: Result<()> = in_subtransaction(OnSuccess::Commit, || {
            run(&format!("do $$ begin raise exception 'no' using errcode = '{code}'; end $$"));
            Ok(())
        });
        result.expect_err("fails").report().sqlstate()
    };
    let outer: Result<()> = in_subtransaction(OnSuccess::Commit, || {
        assert_eq!(fail("SG001"), "SG001");
        assert_eq!(fail("SG002"), "SG002");
        crate::error::raise(Error::MissingValue("row"))
    });
    let report = outer.expect_err("fails").report();
    assert_eq!((report.sqlstate().as_str(), report.context), ("XX000", None));
}

#[pg_extern]
fn a_rolled_back_subtransaction_returns_its_value() {
    run("create table t (x int)");
    let rows = in_subtransaction(OnSuccess::Rollback, || {
        run("insert into t values (1)");
        Ok(one::<i64>("select count(*) from t"))
    });
    assert_eq!(rows.expect("a value"), 1);
    assert_eq!(one::<i64>("select count(*) from t"), 0);
}

#[pg_extern]
fn subtransactions_nest() {
    run("create table t (x int)");
    let outer = in_subtransaction(OnSuccess::Commit, || {
        run("insert into t values (1)");
        let inner: Result<()> = in_subtransaction(OnSuccess::Commit, || {
            run("insert into t values (2)");
            run("select 1 / 0");
            Ok(())
        });
        assert_eq!(inner.expect_err("fails").report().sqlstate(), "22012");
        Ok(())
    });
    outer.expect("the outer one stands");
    assert_eq!(one::<i64>("select sum(x) from t"), 1);
}

#[pg_extern]
fn a_cancellation_is_raised_again() {
    let code = PgTryBuilder::new(|| {
        let _: Result<()> = in_subtransaction(OnSuccess::Commit, || {
            run("select pg_cancel_backend(pg_backend_pid()), pg_sleep(10)");
            Ok(())
        });
        None
    })
    .catch_others(|error| match error {
        pg_sys::panic::CaughtError::PostgresError(report) => Some(report.sql_error_code()),
        _ => None,
    })
    .execute();
    assert_eq!(code, Some(PgSqlErrorCode::ERRCODE_QUERY_CANCELED));
}

#[pg_extern]
fn another_role_is_assumed_and_restored() {
    run("create role pgt_low");
    let low: pg_sys::Oid = one("select 'pgt_low'::regrole::oid");
    let before: String =
        one("select current_user || current_setting('search_path') || current_setting('TimeZone')");
    let inside: String = role::run_as(low, Rights::Restricted, &settings(), || {
        one(
            "select current_user || ' ' || current_setting('search_path') || ' ' || current_setting('TimeZone')",
        )
    });
    assert_eq!(inside, "pgt_low pg_catalog Europe/Berlin");
    let after: String =
        one("select current_user || current_setting('search_path') || current_setting('TimeZone')");
    assert_eq!(before, after);

    let failed: Result<()> = in_subtransaction(OnSuccess::Commit, || {
        role::run_as(low, Rights::Restricted, &settings(), || {
            run("select pg_read_file('/etc/passwd')")
        });
        Ok(())
    });
    assert_eq!(failed.expect_err("forbidden").report().sqlstate(), "42501");
    let after: String =
        one("select current_user || current_setting('search_path') || current_setting('TimeZone')");
    assert_eq!(before, after);
}

#[pg_extern]
fn settings_changed_inside_are_restored() {
    let me = role::current();
    role::run_as(me, Rights::Restricted, &settings(), || {
        run("set work_mem = '1GB'; set datestyle = 'German'")
    });
    assert_ne!(one::<String>("select current_setting('work_mem')"), "1GB");
    assert!(one::<String>("select current_setting('datestyle')").starts_with("ISO"));
}

/// What was written a short time ago is in memory: to look it up costs no more than to read on.
#[pg_extern]
fn pages_in_memory_are_planned_as_such() {
    let cost = || one::<String>("select current_setting('random_page_cost')");
    run("set local random_page_cost = 4");
    assert_eq!(role::from_memory(cost), "1");
    assert_eq!(cost(), "4");
    run("set local seq_page_cost = 0.5");
    assert_eq!(role::from_memory(cost), "0.5");
    run("set local random_page_cost = 0.25");
    assert_eq!(role::from_memory(cost), "0.25");
}

#[pg_extern]
fn a_restricted_operation_cannot_leave_its_role() {
    run("create role pgt_low");
    let low: pg_sys::Oid = one("select 'pgt_low'::regrole::oid");
    for escape in ["reset role", "set session authorization postgres", "create temp table x ()"] {
        let tried: Result<()> = in_subtransaction(OnSuccess::Commit, || {
            role::run_as(low, Rights::Restricted, &settings(), || run(escape));
            Ok(())
        });
        assert_eq!(tried.expect_err(escape).report().sqlstate(), "42501", "{escape}");
    }
}

#[pg_extern]
fn read_only_code_cannot_write() {
    run("create table t (x int)");
    run("create sequence s");
    for write in [
        "insert into t values (1)",
        "select nextval('s')",
        "create table u ()",
        "set transaction_read_only = off",
        "do $$ begin reset transaction_read_only; insert into t values (1); end $$",
    ] {
        let tried: Result<()> = in_subtransaction(OnSuccess::Commit, || {
            role::read_only(|| {
                run(write);
                Ok(())
            })
        });
        tried.expect_err(write);
    }
    run("insert into t values (1)");
}

#[pg_extern]
fn a_text_is_parsed_into_statements() {
    use statement::StatementKind::{Call, Other, Select};
    let parts = |sql| -> Vec<_> {
        statement::parse(sql).iter().map(|p| (p.kind, p.text.to_owned())).collect()
    };
    let only = |sql| {
        let mut all = parts(sql);
        assert_eq!(all.len(), 1, "{sql}");
        all.remove(0)
    };
    assert!(only("select 1;  -- done") == (Select, "select 1".into()));
    assert!(only("select ';' /* ; */") == (Select, "select ';' /* ; */".into()));
    assert!(only("call f()").0 == Call);
    assert!(only("delete from x").0 == Other);
    assert_eq!(parts("select 1; select 2").len(), 2);
    assert!(parts(" -- nothing").is_empty());
}

#[pg_extern]
fn a_prepared_query_is_analysed_before_it_runs() {
    run("create table t (x int); create view v as select x from t");
    Spi::connect(|_| {
        let plain = |sql| statement::Prepared::new(sql, &[]).expect("valid").is_plain_select();
        assert!(plain("select * from t"));
        assert!(!plain("select * from t for update"));
        assert!(!plain("with d as (delete from t returning x) select * from d"));
        assert!(!plain("insert into t values (1)"));
        let view = statement::Prepared::new("select x as id from v", &[]).expect("valid");
        assert_eq!(view.columns().len(), 1);
        let t: pg_sys::Oid = one("select 't'::regclass::oid");
        // Of a view only its name is taken, of a subquery what is in it.
        let v: pg_sys::Oid = one("select 'v'::regclass::oid");
        let readers = Readers { members: (String::new(), ""), current: pg_sys::InvalidOid };
        let named = view.named(&readers);
        assert!(named.relations.contains(&v) && !named.relations.contains(&t));
        let nested = "with w as (select 1 from t) select (select x from v where abs(x) > 0) from (select from v) s";
        let named = statement::Prepared::new(nested, &[]).expect("valid").named(&readers);
        assert!(named.relations.contains(&v) && named.relations.contains(&t));
        let abs: pg_sys::Oid = one("select 'abs(int)'::regprocedure::oid");
        assert!(named.functions.contains(&abs));
    });
}

#[pg_extern]
fn rows_are_stored_counted_and_read_by_name() {
    let sum: i64 = Spi::connect(|client| {
        let sql = "select (case when g % 3 = 0 then 'x' else 'y' end)::\"char\", g from generate_series(1, $1) g";
        let relation = relation::Relation::new(c"kept");
        let tally = relation.append_counted(sql, &[9.into()], b"y").expect("kept");
        assert_eq!((tally.of(b'x'), tally.of(b'y'), tally.of(b'z')), (3, 6, 0));
        let row = client.select("select sum(g) from kept", Some(1), &[]).expect("read").first();
        row.get_one().expect("a number").expect("not null")
    });
    assert_eq!(sum, 3 + 6 + 9);
}

/// A relation that has all values of a column is taken out of joins with it, and out of no others.
#[pg_extern]
fn joins_that_change_nothing_are_taken_out() {
    run("create table people (id int primary key, boss int)");
    run("create table words (id text)");
    let column = |table: &str, number| (one(&format!("select '{table}'::regclass::oid")), number);
    let is_taken_out = |of: &str, type_name: &str, sql: &str| {
        let columns = vec![column(of, 1)];
        let implied = std::rc::Rc::new(Implied { name: c"changed", columns });
        Spi::connect(|_| {
            let changed = relation::Relation::new(c"changed");
            changed.take_columns(&format!("select null::{type_name} as id"), &[]).expect("valid");
            let query = implied.taken_out(sql).expect("valid");
            // What is read nevertheless is an error, where it has no rows.
            let run = in_subtransaction(OnSuccess::Rollback, || {
                implied.take_out(|| relation::Relation::new(c"rows").append(sql, &[]))
            });
            assert_eq!(run.is_ok(), query.is_some(), "{sql}");
            query.is_some()
        })
    };
    let people = |sql: &str| is_taken_out("people", "int", sql);
    for sql in [
        "select p.id from people p",
        "select id from people join changed using (id)",
        "select c.id, count(c) from changed c join people p on p.id = c.id group by 1",
        "select c.x from changed c (x), people p where p.boss > 1 and (p.id = c.x and true)",
        "select id from people where id in (select id from changed)",
        "select id from people p where exists (select from changed c where c.id = p.id)",
        "select p.id from people p join changed c using (id) left join people b on b.id = c.id",
        "select p.id from people p join people b on b.id = p.boss join changed c on c.id = b.id",
        "with p as (select id from changed natural join people) select id from p
         union all select id from (select c.id from people p join changed c using (id)) q",
    ] {
        assert!(people(sql), "{sql}");
    }
    for sql in [
        "select id from changed",
        "select p.id from people p cross join changed",
        "select p.id from people p join changed c on c.id = p.boss",
        "select p.id from people p join changed c on c.id >= p.id",
        "select p.id from people p join changed c on c.id = p.id or c.id = 1",
        "select p.id from people p left join changed c using (id)",
        "select p.id from changed c left join people p using (id)",
        "select p.id from people p full join changed c using (id)",
        "select p.id from people p left join (people b join changed c using (id)) on b.id = p.boss
         where c.id = p.id",
        "select p.id from people p left join people b on b.id = p.boss join changed c on c.id = b.id",
        "select id from people where id not in (select id from changed)",
        "select id from people where id in (select id from changed limit 1)",
        "select id from people where id in (select max(id) from changed)",
        "select id from people where boss in (select id from changed)",
        "select id from people join changed using (id) where exists (select from changed)",
        "select c.id from people p join changed c using (id) group by rollup (c.id, p.id)",
    ] {
        assert!(!people(sql), "{sql}");
    }
    // The relation's ids are of another type, or the condition is not the equality of bytes.
    assert!(!is_taken_out("people", "bigint", "select id from people join changed using (id)"));
    assert!(!is_taken_out("words", "int", "select p.id from people p join changed using (id)"));
    assert!(is_taken_out("words", "text", "select id from words join changed using (id)"));
    // Builds without ICU have no collation that takes different bytes for equal.
    if !one::<bool>("select exists (select from pg_collation where collname = 'und-x-icu')") {
        return;
    }
    run(
        "create collation any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    );
    let sql = "select w.id from words w join changed c on c.id = w.id collate any_case";
    assert!(!is_taken_out("words", "text", sql));
}

/// What is made within an SPI connection can be kept longer: a statement stays valid, a relation
/// is known to have lost its rows.
#[pg_extern]
fn statements_and_relations_may_outlive_their_connection() {
    let (statement, relation) = Spi::connect(|_| {
        let relation = relation::Relation::new(c"kept");
        relation.append("select 1", &[]).expect("kept");
        (statement::Prepared::new("select 1 as x", &[]).expect("valid"), relation)
    });
    run("select count(*) from pg_class");
    assert_eq!(statement.columns()[0].name, "x");
    let read = in_subtransaction(OnSuccess::Commit, || Ok(relation.rows()));
    assert!(read.expect_err("gone").to_string().contains("kept"));
    let made = in_subtransaction(OnSuccess::Rollback, || {
        Ok(Spi::connect(|_| relation::Relation::new(c"kept")))
    });
    drop(made);
}

#[pg_extern]
fn values_are_coerced_to_modifiers_as_by_assignment() {
    let fit = |expression: &str, typ: &str, modifier: &str| {
        let oid: pg_sys::Oid = one(&format!("select '{typ}'::regtype::oid"));
        let modifier: i32 = one(&format!(
            "select atttypmod from pg_attribute where attrelid = 'm'::regclass and attname = '{modifier}'"
        ));
        system_catalog::coerce_to_typmod(expression, oid, modifier)
    };
    run("create table m (n numeric(10, 2), v varchar(3), c char(3), p timestamp(0), i int)");
    assert_eq!(
        one::<String>(&format!("select ({})::text", fit("1.239::numeric", "numeric", "n"))),
        "1.24"
    );
    assert_eq!(
        one::<String>(&format!("select octet_length({})::text", fit("'a'::bpchar", "bpchar", "c"))),
        "3"
    );
    assert_eq!(fit("x", "int", "i"), "x");
    let long = in_subtransaction(OnSuccess::Rollback, || {
        Ok(one::<String>(&format!("select {}", fit("'abcd'::varchar", "varchar", "v"))))
    });
    assert_eq!(long.expect_err("too long").report().sqlstate(), "22001");
}

/// Sets the zone of members' times for the database, until the test is undone.
fn set_timezone(zone: &str) {
    run(&format!(
        "do $$ begin execute format('alter database %I set segmenter.timezone = %L', current_database(), '{zone}'); end $$"
    ));
}

#[pg_extern]
fn members_times_are_local_to_the_configured_zone() {
    shop();
    run("select segmenter_refresh('vip')");
    let near = "select abs(extract(epoch from actual_begin - (clock_timestamp() at time zone 'UTC'))) < 60 from vip limit 1";
    assert!(one::<bool>(near));
    set_timezone("Asia/Kolkata");
    run("update crm.people set hash_email = 'x' where id = 2");
    run("select segmenter_refresh('vip')");
    let near = "select abs(extract(epoch from actual_begin - (clock_timestamp() at time zone 'Asia/Kolkata'))) < 60
                from vip where id = '2' and actual_end = 'infinity'";
    assert!(one::<bool>(near));
}

#[pg_extern]
fn a_clock_that_goes_back_leaves_no_negative_period() {
    shop();
    set_timezone("Asia/Tokyo");
    run("select segmenter_refresh('vip')");
    // Local time jumps nine hours back.
    set_timezone("UTC");
    run("update crm.people set hash_email = 'x' where id = 2; delete from crm.people where id = 4");
    run("select segmenter_refresh('vip')");
    assert_eq!(one::<i64>("select count(*) from vip where actual_end < actual_begin"), 0);
    let latest: Timestamp = one("select max(actual_begin) from vip where id = '2'");
    let closed: Timestamp =
        one("select max(actual_end) from vip where id = '2' and actual_end <> 'infinity'");
    assert_eq!(latest, closed);
}

#[pg_extern]
fn a_zone_that_does_not_exist_is_refused() {
    let refused: Result<()> = in_subtransaction(OnSuccess::Commit, || {
        run("set segmenter.timezone = 'Mars/Olympus'");
        Ok(())
    });
    assert_eq!(refused.expect_err("refused").report().sqlstate(), "22023");
}

/// The check hook of a setting refuses a value, and raises no error: the caller may ask for a
/// warning only.
#[pg_extern]
fn a_set_that_does_not_exist_is_refused_and_not_raised() {
    for name in [c"no.such_set", c"a.name.of.too.many.parts", c""] {
        // SAFETY: both strings are static; the change belongs to the transaction.
        let result = unsafe {
            pg_sys::set_config_option(
                c"segmenter.cfg_table".as_ptr(),
                name.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SET,
                true,
                PgLogLevel::WARNING as i32,
                false,
            )
        };
        assert_eq!(result == 1, name.is_empty(), "{name:?}: {result}");
    }
    for (name, sqlstate) in [("no.such_set", "42704"), ("a.b.c.d", "42602")] {
        let refused: Result<()> = in_subtransaction(OnSuccess::Commit, || {
            run(&format!("set segmenter.cfg_table = '{name}'"));
            Ok(())
        });
        assert_eq!(refused.expect_err("refused").report().sqlstate(), sqlstate);
    }
}

#[pg_extern]
fn a_thousand_refreshes_use_no_more_memory_than_one() {
    shop();
    // The memory of the transaction is freed at its end.
    let context_bytes = || {
        one::<i64>(
            "select sum(total_bytes)::bigint from pg_backend_memory_contexts
             where name <> 'TopTransactionContext'",
        )
    };
    let refresh = |times: usize| {
        for _ in 0..times {
            run("select segmenter_refresh('vip', dry_run => true)");
        }
    };
    refresh(50);
    let before = context_bytes();
    refresh(1000);
    let grown = context_bytes() - before;
    assert!(grown < 256 * 1024, "{grown} bytes more");
}

fn kept(sql: &str, args: &[DatumWithOid<'_>]) -> Option<i32> {
    let read = |client: &pgrx::spi::SpiClient<'_>| {
        client.select(Kept::new(sql), Some(1), args)?.first().get_one()
    };
    Spi::connect(read).expect("a kept statement")
}

/// How many statements like this one the session keeps.
fn number_kept(sql: &str) -> i64 {
    one(&format!(
        "select count(*) from pg_backend_memory_contexts where name = 'CachedPlanSource' and ident like '{sql}'"
    ))
}

/// Twice as many as a session keeps.
#[pg_extern]
fn kept_statements_are_limited() {
    for number in 0..256 {
        let sql = format!("select {number} + $1");
        assert_eq!(kept(&sql, &[1.into()]), Some(number + 1));
    }
    let count = number_kept("select % + $1");
    assert!((1..=128).contains(&count), "{count} are kept");
}

/// A statement is forgotten while it is executed, and goes on.
#[pg_extern]
fn a_kept_statement_outlives_its_place() {
    run(
        "create function fill() returns void language c as 'segmenter', 'kept_statements_are_limited_wrapper'",
    );
    let sql =
        "select n from generate_series(1, $1) n where fill() is null or n > 0 order by n desc";
    for _ in 0..3 {
        assert_eq!(kept(sql, &[3.into()]), Some(3));
        assert!(number_kept("select 255 + $1") == 1, "it was forgotten meanwhile");
    }
}

#[pg_extern]
fn a_kept_statement_follows_its_relations() {
    run("create table kept (x int); insert into kept values (1)");
    let sql = "select x + $1 from kept";
    for argument in 0..10 {
        assert_eq!(kept(sql, &[argument.into()]), Some(argument + 1));
    }
    assert_eq!(number_kept(sql), 1);
    run("drop table kept; create table kept (y text, x int); insert into kept values ('a', 7)");
    assert_eq!(kept(sql, &[1.into()]), Some(8));
    run("drop table kept; create view kept as select 70 as x");
    assert_eq!(kept(sql, &[1.into()]), Some(71));
    // A statement with arguments of other types is another one.
    assert_eq!(kept("select length($1::text)", &["four".into()]), Some(4));
    assert_eq!(kept("select length($1::text)", &[12345.into()]), Some(5));
    // A set under the name of one that was dropped.
    shop();
    for people in [50, 20] {
        run("select segmenter_init('crm.again')");
        run("set local segmenter.cfg_table = 'crm.again'");
        run(&format!(
            "select segmenter_create_segment('few', 'select id from crm.people where id <= {people}', table_name => 'crm.few')"
        ));
        run("select segmenter_refresh('few')");
        run("select segmenter_refresh('few')");
        let coverage = one::<i64>(
            "select coverage from crm.again_log where action = 'refresh' order by id desc limit 1",
        );
        assert_eq!(coverage, people);
        run("set local segmenter.cfg_table = 'segmenter'");
        run("select segmenter_drop_set('crm.again', true); drop table crm.few");
    }
}

/// The context of an error in a segment's query is that of the query, without our statement around it.
#[pg_extern]
fn a_context_ends_where_our_statement_begins() {
    shop();
    run("create function crm.fail() returns boolean language plpgsql as 'begin return 1 / 0; end'");
    run(
        "select segmenter_create_segment('bad', 'select id, hash_email from crm.people where crm.fail()')",
    );
    run("select segmenter_refresh('bad')");
    let context: String =
        one("select error ->> 'context' from segmenter_log where segment_name = 'bad'");
    assert!(context.contains("crm.fail()"), "{context}");
    assert!(!context.contains("SQL statement"), "{context}");
}

/// Each statement of `sql/query` can be prepared with the types of its parameters, and returns
/// the columns of its header. Commands are run and rolled back.
#[pg_extern]
fn every_query_agrees_with_its_header() {
    shop();
    run("select segmenter_refresh('vip')");
    run("create table free (like vip)");
    // A set is dropped after its view.
    run("select segmenter_init('public.prepared'); drop view prepared_status");
    run(
        "create schema cron; create table cron.job (jobid bigint, active boolean, database text, command text)",
    );
    for (name, columns) in [
        (
            "segmenter_delta",
            "operation \"char\", id text collate \"C\", n1 text, o1 text, place tid",
        ),
        ("segmenter_excluded", "id text collate \"C\""),
        (
            "segmenter_listed",
            "id text collate \"C\", hash_email text collate \"C\", hash_phone text collate \"C\"",
        ),
        (
            "segmenter_former",
            "id text collate \"C\", hash_email text collate \"C\", hash_phone text collate \"C\"",
        ),
        ("segmenter_located", "operation \"char\", id text collate \"C\", n1 text, place tid"),
        ("segmenter_captured", "number integer, id text"),
        ("segmenter_recent", "id text"),
        ("segmenter_ids", "id text"),
        ("changed", "id text"),
        ("segmenter_expired", "id text"),
        ("segmenter_family_rows", "id text, segment text"),
        ("segmenter_audience", "operation \"char\", id text collate \"C\", place tid"),
        ("segmenter_kept", "id text, member jsonb, hash_email text, hash_phone text"),
    ] {
        run(&format!("create temporary table {name} ({columns})"));
    }
    let set = RelationSet::named(Extension::current().expect("the extension"), "public.prepared")
        .expect("the set");
    let oid = |kind: &str| -> pg_sys::Oid { one(&format!("select '{kind}'::regtype::oid")) };
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/query");
    let files = QueryFile::read_all(&directory).expect("the queries");
    assert!(files.len() > 130, "{} files", files.len());
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| !file.runs_as.is_empty()) {
        let parts: Vec<_> =
            file.parts.iter().map(|(word, example)| (&**word, &**example)).collect();
        let (name, text) = (file.name.clone().leak(), file.text.clone().leak());
        let sql = set.sql(&Query::of(name, text), &parts);
        let args: Vec<_> =
            file.params.iter().map(|(_, kind)| DatumWithOid::null_oid(oid(kind))).collect();
        let row: Vec<_> = file.row.iter().map(|(name, kind)| (name.clone(), oid(kind))).collect();
        let checked = in_subtransaction(OnSuccess::Rollback, || {
            if file.is_command() {
                run(&sql);
                return Ok(None);
            }
            Spi::connect(|_| {
                let columns = statement::Prepared::new(&sql, &args)?.columns();
                Ok(Some(columns.into_iter().map(|c| (c.name, c.type_oid)).collect::<Vec<_>>()))
            })
        });
        match checked {
            Err(error) => wrong.push(format!("{}: {error}", file.name)),
            Ok(None) => {}
            Ok(Some(columns)) if file.is_open => {
                let missing = row.iter().find(|column| !columns.contains(column));
                wrong.extend(missing.map(|(column, _)| format!("{}: no {column}", file.name)));
            }
            Ok(Some(columns)) => {
                let types = |row: &[(String, pg_sys::Oid)]| {
                    row.iter().map(|(_, kind)| *kind).collect::<Vec<_>>()
                };
                // The name of a single column is not compared.
                let same =
                    if row.len() == 1 { types(&row) == types(&columns) } else { row == columns };
                if !same {
                    wrong.push(format!("{}: {columns:?}, not {row:?}", file.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[pg_extern]
fn a_lost_run_of_a_deleted_segment_gets_its_end() {
    shop();
    run("insert into segmenter_log (run_id, action, status, segment_id, segment_name)
         select gen_random_uuid(), 'refresh', 'running', s.id, s.name from segmenter_segments s");
    run(
        "insert into segmenter_attempts (segment_id, refreshes, run_id, running_since)
         select l.segment_id, 0, l.run_id, l.processed from segmenter_log l where l.status = 'running'
         on conflict (segment_id) do update set run_id = excluded.run_id, running_since = excluded.running_since",
    );
    run("delete from segmenter_segments");
    let set = RelationSet::current().expect("the set");
    let _snapshot = Active::fresh();
    let interrupted = state::interrupt(&set, Vec::new, None).expect("the ends");
    assert_eq!(interrupted.names, ["vip"]);
    assert_eq!(one::<i64>("select count(*) from segmenter_attempts"), 0);
    assert_eq!(one::<i64>("select count(*) from segmenter_log where status = 'interrupted'"), 1);
}

/// A run is looked for among those that have a worker after it was found: one that began since then is no
/// lost one.
#[pg_extern]
fn a_run_that_begins_during_the_search_is_not_interrupted() {
    shop();
    let other = "00000000-0000-0000-0000-000000000002";
    run("insert into segmenter_attempts (segment_id, refreshes, run_id, running_since)
         select s.id, 0, gen_random_uuid(), now() from segmenter_segments s
         on conflict (segment_id) do update set run_id = excluded.run_id, running_since = excluded.running_since");
    let set = RelationSet::current().expect("the set");
    let _snapshot = Active::fresh();
    let begins = || {
        run(&format!("update segmenter_attempts set run_id = '{other}'"));
        Vec::new()
    };
    assert!(state::interrupt(&set, begins, None).expect("the ends").names.is_empty());
    let running = "select run_id::text from segmenter_attempts where running_since is not null";
    assert_eq!(one::<String>(running), other);
    let lives = || vec![one::<Uuid>(&format!("select '{other}'::uuid"))];
    assert!(state::interrupt(&set, lives, None).expect("the ends").names.is_empty());
    assert_eq!(state::interrupt(&set, Vec::new, None).expect("the ends").names, ["vip"]);
    assert!(state::interrupt(&set, Vec::new, None).expect("the ends").names.is_empty());
}

/// Another session's failed attempt is recorded beside a run that goes on, whose end is still to come.
#[pg_extern]
fn a_failure_beside_a_run_leaves_it_running() {
    shop();
    let set = RelationSet::current().expect("the set");
    let _snapshot = Active::fresh();
    let vip = one::<Uuid>("select id from segmenter_segments");
    let (begun, other) =
        (one::<Uuid>("select gen_random_uuid()"), one::<Uuid>("select gen_random_uuid()"));
    assert!(state::begin(&set, vip, begun, clock::now()).expect("a begin"));
    let record = |query, run: Uuid| {
        let now = clock::timestamp(clock::now());
        let args = [
            vip.into(),
            run.into(),
            now.into(),
            now.into(),
            "failed".into(),
            "it".into(),
            None::<i32>.into(),
        ];
        set.write(query, &args).expect("a record");
    };
    let failure = &queries::catalog::state::RECORD_FAILURE;
    record(failure, other);
    let row = "select concat_ws(' ', run_id = $$begun$$, running_since is not null, status, failures) from segmenter_attempts";
    let row = row.replace("$$begun$$", &format!("'{begun}'"));
    assert_eq!(one::<String>(&row), "t t failed 1");
    record(failure, begun);
    assert_eq!(one::<String>(&row), "t f failed 2");
    record(failure, other);
    assert_eq!(one::<String>(&row), "f f failed 3");
}

/// A worker is lost, its end is handled late, and meanwhile another session has refreshed the segment.
#[pg_extern]
fn a_run_that_was_lost_before_the_last_refresh_does_not_count() {
    shop();
    let before = clock::now();
    run("select segmenter_refresh('vip')");
    let set = RelationSet::current().expect("the set");
    let _snapshot = Active::fresh();
    let vip = one::<Uuid>("select id from segmenter_segments");
    let lost = one::<Uuid>("select gen_random_uuid()");
    let found = |run, at| state::find_lost_run(&set, vip, run, at).expect("the state");
    assert!(matches!(found(lost, before), LostRun::Superseded));
    assert!(matches!(found(lost, clock::now()), LostRun::Unknown));
    let done = one::<Uuid>("select run_id from segmenter_state");
    assert!(matches!(found(done, clock::now()), LostRun::Ended));

    // It gets its end in the log, if that has its begin.
    run("insert into segmenter_log (run_id, action, status, segment_id, segment_name)
         select '00000000-0000-0000-0000-000000000001', 'refresh', 'running', s.id, s.name from segmenter_segments s");
    let begun = one::<Uuid>("select '00000000-0000-0000-0000-000000000001'::uuid");
    for run in [lost, done, begun, begun] {
        state::log_lost(&set, vip, run).expect("an end");
    }
    let ends =
        "select string_agg(run_id::text, ' ') from segmenter_log where status = 'interrupted'";
    assert_eq!(one::<String>(ends), "00000000-0000-0000-0000-000000000001");

    // Its attempt, which the success has outlived, is closed with it; it has ended, whatever comes now.
    run("insert into segmenter_log (run_id, action, status, segment_id, segment_name)
         select '00000000-0000-0000-0000-000000000003', 'refresh', 'running', s.id, s.name from segmenter_segments s");
    run("insert into segmenter_attempts (segment_id, refreshes, run_id, running_since)
         select s.id, 0, '00000000-0000-0000-0000-000000000003', now() from segmenter_segments s
         on conflict (segment_id) do update set refreshes = 0, run_id = excluded.run_id, running_since = excluded.running_since");
    let begun = one::<Uuid>("select '00000000-0000-0000-0000-000000000003'::uuid");
    assert!(matches!(found(begun, before), LostRun::Superseded));
    state::log_lost(&set, vip, begun).expect("an end");
    run(
        "delete from segmenter_log where run_id = '00000000-0000-0000-0000-000000000003' and status = 'interrupted'",
    );
    assert!(state::interrupt(&set, Vec::new, None).expect("the ends").names.is_empty());
    run("insert into segmenter_log (run_id, action, status, segment_id, segment_name)
         select '00000000-0000-0000-0000-000000000003', 'refresh', 'ok', s.id, s.name from segmenter_segments s");
    let _logged = Active::fresh();
    assert!(matches!(found(begun, clock::now()), LostRun::Ended));
}

/// A request counts until it has ended, and from its end on.
#[pg_extern]
fn requests_are_counted_from_their_end() {
    run("create server counted foreign data wrapper segmenter_http options (connector 'yandex')");
    run("create user mapping for public server counted options (access_token 'x')");
    let extension = Extension::current().expect("the extension");
    let connection = Connection::find(&extension, "counted", role::current()).expect("found");
    let limits = Limits { per_second: Some(2), ..Limits::default() };
    let count = || {
        let counted =
            connection.mapping.count_request(&extension, &limits, Duration::from_secs(60));
        counted.expect("counted")
    };
    assert!(count().is_ok() && count().is_ok());
    let later = |seconds: f64| {
        run(&format!(
            "update segmenter_requests set requested_at = requested_at - interval '{seconds} seconds'"
        ))
    };
    // Both go on: however long they have, the next one is a second later.
    for seconds in [0.0, 5.0, 54.0] {
        later(seconds);
        let wait = count().err().expect("a wait");
        assert!(wait > Duration::from_millis(900) && wait <= Duration::from_secs(1), "{wait:?}");
    }
    run("delete from segmenter_requests");
    let Ok(first) = count() else { panic!("no request is permitted") };
    assert!(count().is_ok());
    connection.mapping.end_request(&extension, first).expect("ended");
    assert_eq!(one::<i64>("select count(*) from segmenter_requests where time_limit is null"), 1);
    assert!(count().is_err());
    run(
        "update segmenter_requests set requested_at = requested_at - interval '1 second' where time_limit is null",
    );
    assert!(count().is_ok());
    assert!(count().is_err());
    // Those of a session that has ended meanwhile count until their time limit.
    later(62.0);
    assert!(count().is_ok());
    run("drop server counted cascade");
}
