"""What the tests stand on: the server process, a provider API, a recording tap, schemas, canaries."""
