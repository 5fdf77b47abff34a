"""The labs show and try the product: demo, balance act, drill and lab. No tier and no library imports them."""
