"""The versions of a model: open them, watch over them, try them beside live traffic, exchange and close them."""
