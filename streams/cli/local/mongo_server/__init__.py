"""A small MongoDB server over one SQLite file: what a development instance keeps documents in.

From the outside in: `server` takes connections, `wire` reads and writes their messages, `commands`
does what they say, `collection` keeps the documents of one collection and `catalogue` knows which
there are; `planning` turns filters into SQL over `keys`, and `semantics` decides whatever SQL does
not, with the help of mongomock.
"""
