"""Schema revisions, applied by ``tutelage.runtime.store.database.migrate``."""
