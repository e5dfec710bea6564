select
    order_item_id,
    order_id,
    product_id,
    quantity,
    unit_price,
    quantity * unit_price as item_revenue
from {{ ref('stg_order_items') }}
