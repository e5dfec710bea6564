select
    customers.customer_id,
    customers.customer_name,
    customers.country_code,
    countries.country_name,
    customers.registered_on
from {{ ref('stg_customers') }} as customers
left join {{ ref('country_names') }} as countries
    on customers.country_code = countries.country_code
