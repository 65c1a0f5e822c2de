"""ScienceWorld: long text tasks of elementary science, played in its Java simulator."""
