select t.@column@ as id from @table@ as t
