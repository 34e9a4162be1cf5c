"""The client: typed Python calls over HTTP. Importing it loads no Ray."""

from t3d_server.client.client import Client
from t3d_server.client.events import RunEvent
from t3d_server.client.run_handle import RunHandle

__all__ = ["Client", "RunEvent", "RunHandle"]
