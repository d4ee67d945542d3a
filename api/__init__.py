"""What stands between the network and the page: names of this server, open routes, request bodies, limits."""
