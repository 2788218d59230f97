insert into @consumers@ (name, role) values ($1, $2) returning id
