"""The API's routes, one file for each kind of thing. They check, call the rooms, and answer."""
