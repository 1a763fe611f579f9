"""The outside world: Arrow schemas, reading data of known layouts, writing other tools' formats."""
