select
    id as customer_id,
    full_name as customer_name,
    country_code,
    registered_on
from {{ source('raw', 'customers') }}
