"""The HTTP service: recordings in, detections out. Needs the extra `serve`.

| module | holds |
| --- | --- |
| `settings` | what a service is started with, and the limits on what it takes |
| `batching` | windows of many requests in batches, one thread that owns the network |
| `service` | the network's state: loading, ready, stopping; and what the routes need of it |
| `uploads` | a request's body in bounded memory and time |
| `downloads` | URLs: which are permitted, and how they are read |
| `problems` | errors as JSON |
| `authentication` | the API key, and requests that other sites' pages send |
| `telemetry` | metrics, and logs as JSON |
| `web` | the pages at / and /docs |
| `application` | the routes |
| `run` | the listening socket, and the server until it is stopped |
"""
