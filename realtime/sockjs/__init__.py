"""SockJS 0.3: what browsers do where WebSockets do not get through. `app.SockJs` serves everything below `/ws`."""
