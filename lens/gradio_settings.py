"""Import this before gradio: Gradio's settings in the environment are removed, since they change a page unasked.

GRADIO_ROOT_PATH moves its address, GRADIO_SHARE and GRADIO_MCP_SERVER open it to others, GRADIO_ALLOWED_PATHS and
GRADIO_TEMP_DIR serve files, GRADIO_NUM_PORTS=x ends the import. The page is set up by the options of app.py alone.
"""

import os

OURS = {"GRADIO_ANALYTICS_ENABLED": "False"}
REMOVED = sorted(name for name in os.environ if name.startswith("GRADIO_") and os.environ[name] != OURS.get(name))
"""Settings that were there, to be told to whoever set them."""

for _name in REMOVED:
    del os.environ[_name]
os.environ |= OURS
