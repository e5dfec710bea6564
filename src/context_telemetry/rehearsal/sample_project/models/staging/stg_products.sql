select
    id as product_id,
    title as product_name,
    category,
    price_cents / 100.0 as list_price
from {{ source('raw', 'products') }}
