"""One outside library or store each, behind the protocols of `serve_app.service.ports`."""
