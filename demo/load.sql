-- The load that wednesday.sql began, completed, with the day's new orders.

insert into shop.orders table shop.orders_loading;
drop table shop.orders_loading;
select shop.trade('wednesday', 170);
