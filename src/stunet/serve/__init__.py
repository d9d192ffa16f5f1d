"""The server: an API to segment scans with, the page that uses it, and a client.

A request is checked by `security`, then by `people`, and answered by `routes`. Uploads go to disk as they come. One
process of its own (`worker`) runs networks, one job at a time; another (`helper`) reads uploads and makes the files
that people take away. So neither a scan that needs too much memory nor a damaged file ends the server. `client` talks
to a server, and needs neither torch nor the web framework.
"""
