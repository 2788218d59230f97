//! User mappings of foreign servers.

use std::ffi::CString;

use pgrx::prelude::*;

use crate::error::{Error, Result};

/// An option, and whether the mapping has it already.
pub struct MappingOption<'a> {
    pub name: &'a str,
    pub value: &'a str,
    pub is_there: bool,
}

/// Sets options of a user mapping, of a user or of PUBLIC, with the rights of the current role. No
/// statement is executed: options hold secrets, which extensions would log with its text.
pub fn set_options(server: &str, user: Option<&str>, options: &[MappingOption<'_>]) -> Result<()> {
    let text = |text: &str| CString::new(text).map_err(|_| Error::MissingValue("option"));
    let (server, user) = (text(server)?, user.map(text).transpose()?);
    let options = options
        .iter()
        .map(|option| Ok((text(option.name)?, text(option.value)?, option.is_there)))
        .collect::<Result<Vec<_>>>()?;
    // SAFETY: needs a transaction, in which jobs run. The nodes are made in the current memory context,
    // with every field set, and texts are copied into it; they are live during the call, which copies
    // what it keeps.
    unsafe {
        let mut role = PgBox::<pg_sys::RoleSpec>::alloc_node(pg_sys::NodeTag::T_RoleSpec);
        role.location = -1;
        match &user {
            Some(user) => {
                role.roletype = pg_sys::RoleSpecType::ROLESPEC_CSTRING;
                role.rolename = pg_sys::pstrdup(user.as_ptr());
            }
            None => role.roletype = pg_sys::RoleSpecType::ROLESPEC_PUBLIC,
        }
        let mut list: *mut pg_sys::List = std::ptr::null_mut();
        for (name, value, is_there) in &options {
            let action = match is_there {
                true => pg_sys::DefElemAction::DEFELEM_SET,
                false => pg_sys::DefElemAction::DEFELEM_ADD,
            };
            let value = pg_sys::makeString(pg_sys::pstrdup(value.as_ptr()));
            let name = pg_sys::pstrdup(name.as_ptr());
            let element =
                pg_sys::makeDefElemExtended(std::ptr::null_mut(), name, value.cast(), action, -1);
            list = pg_sys::lappend(list, element.cast());
        }
        let mut statement = PgBox::<pg_sys::AlterUserMappingStmt>::alloc_node(
            pg_sys::NodeTag::T_AlterUserMappingStmt,
        );
        statement.user = role.into_pg();
        statement.servername = pg_sys::pstrdup(server.as_ptr());
        statement.options = list;
        pg_sys::AlterUserMapping(statement.into_pg());
        pg_sys::CommandCounterIncrement();
    }
    Ok(())
}
