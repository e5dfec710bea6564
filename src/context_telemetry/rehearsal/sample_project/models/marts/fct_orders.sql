with items as (
    select
        order_id,
        sum(quantity) as item_count,
        sum(item_revenue) as order_revenue
    from {{ ref('fct_order_items') }}
    group by order_id
)

select
    orders.order_id,
    orders.customer_id,
    cast(orders.ordered_at as date) as order_date,
    orders.status,
    payments.payment_method,
    items.item_count,
    items.order_revenue
from {{ ref('stg_orders') }} as orders
join items
    on orders.order_id = items.order_id
left join {{ ref('stg_payments') }} as payments
    on orders.order_id = payments.order_id
