select
    order_date,
    count(*) as order_count,
    sum(order_revenue) as revenue
from {{ ref('fct_orders') }}
where status <> 'returned'
group by order_date
