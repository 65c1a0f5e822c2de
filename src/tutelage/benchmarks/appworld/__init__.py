"""AppWorld, adapted to the package and data that a user installs; none of it is shipped here."""
