"""The fault matrix: real routers, workers and clients, and what must hold while parts of them die."""
