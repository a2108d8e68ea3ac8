"""The commands, one module per kind of work; each is loaded only when it is called."""
