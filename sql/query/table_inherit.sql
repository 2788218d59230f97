alter table @table@ inherit @mart@
