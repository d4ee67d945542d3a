"""The steering methods, one file and one record each; `table` says what a record holds, `fitting` lists them."""
