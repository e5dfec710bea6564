-- The tables that a shop system would export. Every value follows from its row number, so each run gives the same data.
create schema if not exists raw;

create or replace table raw.customers as
select
    i as id,
    'Customer ' || lpad(i::varchar, 3, '0') as full_name,
    ['AT', 'BR', 'CA', 'DE', 'FR', 'IN', 'JP', 'PL'][(i * 7) % 8 + 1] as country_code,
    date '2024-01-01' + (i % 300)::integer as registered_on
from range(1, 121) as t(i);

create or replace table raw.products as
select
    i as id,
    'Article ' || lpad(i::varchar, 2, '0') as title,
    ['garden', 'kitchen', 'office', 'outdoor', 'toys'][i % 5 + 1] as category,
    500 + (i * 373) % 9500 as price_cents
from range(1, 41) as t(i);

create or replace table raw.orders as
select
    i as id,
    1 + (i * 37) % 120 as customer_id,
    timestamp '2025-01-01 08:00:00' + to_hours((i * 7)::integer) as ordered_at,
    case
        when i > 1150 then 'placed'
        when i > 1100 then 'shipped'
        when i % 17 = 0 then 'returned'
        else 'completed'
    end as status
from range(1, 1201) as t(i);

create or replace table raw.order_items as
select
    row_number() over (order by orders.id, line) as id,
    orders.id as order_id,
    products.id as product_id,
    1 + (orders.id + line) % 4 as quantity,
    products.price_cents
from raw.orders as orders
cross join range(1, 4) as lines(line)
join raw.products as products
    on products.id = 1 + (orders.id * 11 + line * 13) % 40
where line <= 1 + orders.id % 3;

create or replace table raw.payments as
select
    orders.id as id,
    orders.id as order_id,
    ['card', 'invoice', 'transfer', 'voucher'][orders.id % 4 + 1] as method,
    sum(items.quantity * items.price_cents) as amount_cents
from raw.orders as orders
join raw.order_items as items
    on items.order_id = orders.id
where orders.status <> 'placed'
group by orders.id;
