"""The tables of an office."""

from __future__ import annotations

TABLES = (
    "profile",
    "passwords",
    "contacts",
    "contact_groups",
    "group_members",
    "mails",
    "notes",
    "transfers",
    "money_requests",
    "cards",
    "songs",
    "library",
    "playlists",
    "playlist_songs",
    "queue",
    "folders",
    "files",
    "events",
    "todos",
)
"""Every table; the first column of each is its key."""

SCHEMA = """
CREATE TABLE profile (id INTEGER PRIMARY KEY, first_name TEXT, last_name TEXT, email TEXT,
    phone TEXT, city TEXT, birthday TEXT, today TEXT, opening_cents INTEGER);
CREATE TABLE passwords (id INTEGER PRIMARY KEY, app TEXT, username TEXT, password TEXT);
CREATE TABLE contacts (id INTEGER PRIMARY KEY AUTOINCREMENT, first_name TEXT, last_name TEXT,
    email TEXT, phone TEXT, company TEXT, city TEXT, birthday TEXT, relation TEXT,
    favourite INTEGER DEFAULT 0);
CREATE TABLE contact_groups (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
CREATE TABLE group_members (id INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER,
    contact_id INTEGER);
CREATE TABLE mails (id INTEGER PRIMARY KEY AUTOINCREMENT, folder TEXT, sender TEXT,
    recipients TEXT, subject TEXT, body TEXT, sent_at TEXT, read INTEGER DEFAULT 0,
    starred INTEGER DEFAULT 0, labels TEXT DEFAULT '', reply_to INTEGER);
CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT, body TEXT,
    tags TEXT DEFAULT '', pinned INTEGER DEFAULT 0, archived INTEGER DEFAULT 0, updated_at TEXT);
CREATE TABLE transfers (id INTEGER PRIMARY KEY AUTOINCREMENT, direction TEXT, person TEXT,
    amount_cents INTEGER, note TEXT, made_at TEXT, card TEXT);
CREATE TABLE money_requests (id INTEGER PRIMARY KEY AUTOINCREMENT, direction TEXT, person TEXT,
    amount_cents INTEGER, note TEXT, state TEXT, made_at TEXT);
CREATE TABLE cards (id INTEGER PRIMARY KEY AUTOINCREMENT, label TEXT, last_digits TEXT,
    expires TEXT, is_default INTEGER DEFAULT 0);
CREATE TABLE songs (id INTEGER PRIMARY KEY, title TEXT, artist TEXT, album TEXT, genre TEXT,
    year INTEGER, seconds INTEGER, plays INTEGER);
CREATE TABLE library (id INTEGER PRIMARY KEY, liked INTEGER DEFAULT 0, rating INTEGER DEFAULT 0);
CREATE TABLE playlists (id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT,
    public INTEGER DEFAULT 0);
CREATE TABLE playlist_songs (id INTEGER PRIMARY KEY AUTOINCREMENT, playlist_id INTEGER,
    song_id INTEGER);
CREATE TABLE queue (id INTEGER PRIMARY KEY AUTOINCREMENT, song_id INTEGER);
CREATE TABLE folders (id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT UNIQUE);
CREATE TABLE files (id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT UNIQUE, content TEXT,
    modified_at TEXT);
CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT, day TEXT, start TEXT,
    end TEXT, place TEXT DEFAULT '', attendees TEXT DEFAULT '', details TEXT DEFAULT '',
    reminder_minutes INTEGER DEFAULT 0);
CREATE TABLE todos (id INTEGER PRIMARY KEY AUTOINCREMENT, list TEXT, title TEXT, due TEXT,
    priority TEXT DEFAULT 'normal', done INTEGER DEFAULT 0);
"""
