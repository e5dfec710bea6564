select
    id as order_item_id,
    order_id,
    product_id,
    quantity,
    price_cents / 100.0 as unit_price
from {{ source('raw', 'order_items') }}
