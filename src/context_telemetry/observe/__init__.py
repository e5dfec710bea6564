"""How a call is observed: operations, readings, rising, decorators, surfaces, the recorder. No Dataface in here."""
