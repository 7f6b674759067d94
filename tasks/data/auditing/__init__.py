"""The audit of a dataset: its parts, the processes they run in, and the report that is put together from them."""
