"""Serves Debian's Keystone on an address of this machine: serve.py ADDRESS PORT. OS_KEYSTONE_CONFIG_FILES names its configuration."""

import os
import socketserver
import sys
import wsgiref.simple_server

from keystone.server import wsgi


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Handler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *args):
        pass

    def address_string(self):
        return self.client_address[0]  # no look-up of names


address, port = sys.argv[1:]
del sys.argv[1:]  # Keystone would read them
application = wsgi.initialize_public_application()
server = wsgiref.simple_server.make_server(address, int(port), application, Server, Handler)
print("ready", flush=True)
os.dup2(2, 1)  # nobody reads the rest of what it says: a full pipe would stop it
server.serve_forever()
