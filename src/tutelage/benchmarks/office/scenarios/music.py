"""Music: library, playlists, queue."""

from __future__ import annotations

from tutelage.benchmarks.office.changes import Wanted, added, changed, removed
from tutelage.benchmarks.office.desk import Row
from tutelage.benchmarks.office.scenario import Assignment, Scenario, Setting
from tutelage.benchmarks.office.vocabulary import ARTISTS, GENRES

_IN_LIBRARY = "id IN (SELECT id FROM library)"


def _playlist_songs(s: Setting, playlist: Row) -> list[Row]:
    order = s.rows("playlist_songs", "playlist_id = ?", playlist["id"])
    return [s.rows("songs", "id = ?", row["song_id"])[0] for row in order]


def _like(s: Setting) -> Assignment:
    song = s.one("songs", "id IN (SELECT id FROM library WHERE liked = 0)")
    return Assignment(
        f'Like the song "{song["title"]}" in my music library.',
        {"title": song["title"]},
        [changed("library", song["id"], liked=1)],
    )


def _queue_top(s: Setting) -> Assignment:
    artist = s.choice(*ARTISTS)
    song = max(s.rows("songs", "artist = ?", artist), key=lambda row: int(row["plays"]))
    return Assignment(
        f"Put the most played song of {artist} at the end of my queue.",
        {"artist": artist},
        [added("queue", song_id=song["id"])],
    )


def _genre_playlist(s: Setting) -> Assignment:
    genre = s.choice(*GENRES)
    title = f"{genre} {s.choice('evening', 'hour', 'mix')}"
    songs = s.rows("songs", f"genre = ? AND {_IN_LIBRARY}", genre)
    playlist = (s.rows("playlists")[-1]["id"]) + 1
    return Assignment(
        f'Make a playlist "{title}" with all {genre} songs of my music library.',
        {"genre": genre, "title": title},
        [
            added("playlists", title=title, public=0),
            *(added("playlist_songs", playlist_id=playlist, song_id=one["id"]) for one in songs),
        ],
    )


def _rate_artist(s: Setting) -> Assignment:
    artist, rating = s.choice(*ARTISTS), s.choice("5", "2", "1")
    songs = s.rows("songs", f"artist = ? AND {_IN_LIBRARY}", artist)
    return Assignment(
        f"Rate all songs of {artist} in my music library with {rating}.",
        {"artist": artist, "rating": int(rating)},
        [changed("library", one["id"], rating=int(rating)) for one in songs],
    )


def _longest(s: Setting) -> Assignment:
    playlist = s.one("playlists")
    longest = max(_playlist_songs(s, playlist), key=lambda row: int(row["seconds"]))
    return Assignment(
        f'What is the title of the longest song in my playlist "{playlist["title"]}"?',
        {"playlist": playlist["title"]},
        answer=longest["title"],
    )


def _remove_old(s: Setting) -> Assignment:
    years = sorted(row["year"] for row in s.rows("songs", _IN_LIBRARY))
    year = years[s.number(2, 5)] + 1
    songs = s.rows("songs", f"year < ? AND {_IN_LIBRARY}", year)
    return Assignment(
        f"Remove all songs from before {year} from my music library.",
        {"year": year},
        [removed("library", one["id"]) for one in songs],
    )


def _queue_playlist(s: Setting) -> Assignment:
    playlist = s.one("playlists")
    wanted: list[Wanted] = [removed("queue", row["id"]) for row in s.rows("queue")]
    wanted += [added("queue", song_id=song["id"]) for song in _playlist_songs(s, playlist)]
    return Assignment(
        f'Empty my queue, then put the songs of my playlist "{playlist["title"]}" into it, '
        "in their order.",
        {"playlist": playlist["title"]},
        wanted,
    )


def _minutes(s: Setting) -> Assignment:
    playlist = s.one("playlists")
    seconds = sum(song["seconds"] for song in _playlist_songs(s, playlist))
    return Assignment(
        f'How many seconds does my playlist "{playlist["title"]}" play in all?',
        {"playlist": playlist["title"]},
        answer=seconds,
    )


def _top_artist(s: Setting) -> Assignment:
    plays = {
        artist: sum(
            row["plays"] for row in s.rows("songs", f"artist = ? AND {_IN_LIBRARY}", artist)
        )
        for artist in ARTISTS
    }
    return Assignment(
        "Add up the plays of the songs in my music library for each artist. Which artist has most?",
        answer=max(plays, key=lambda artist: plays[artist]),
    )


def _publish(s: Setting) -> Assignment:
    playlist = s.one("playlists")
    title = f"{playlist['title']} {s.choice('(shared)', '(best of)')}"
    return Assignment(
        f'Rename my playlist "{playlist["title"]}" to "{title}" and make it public.',
        {"old": playlist["title"], "title": title},
        [changed("playlists", playlist["id"], title=title, public=1)],
    )


_FIND_PLAYLIST = """
> I look for the playlist.
playlists = apis.music.list_playlists(music_token)
playlist = [one for one in playlists if one["title"] == $playlist][0]
songs = apis.music.show_playlist(music_token, playlist_id=playlist["playlist_id"])
print(songs)
"""

SCENARIOS = (
    Scenario(
        "like_song",
        "train",
        "easy",
        _like,
        """
> I look for the song.
song = apis.music.search_songs(music_token, query=$title)[0]
print(song)
> I like it.
print(apis.music.like_song(music_token, song_id=song["song_id"]))
""",
    ),
    Scenario(
        "queue_top_song",
        "test",
        "easy",
        _queue_top,
        """
> The most played song comes first.
song = apis.music.search_songs(music_token, artist=$artist)[0]
print(song)
> I put it into the queue.
print(apis.music.queue_song(music_token, song_id=song["song_id"]))
""",
    ),
    Scenario(
        "genre_playlist",
        "train",
        "medium",
        _genre_playlist,
        """
> I collect the songs of the library.
@pages library = apis.music.list_library(music_token)
songs = [song for song in library if song["genre"] == $genre]
print(songs)
> I make the playlist.
playlist = apis.music.create_playlist(music_token, title=$title)
print(playlist)
> I put the songs into it.
for song in songs:
    key = playlist["playlist_id"]
    apis.music.add_to_playlist(music_token, playlist_id=key, song_id=song["song_id"])
""",
    ),
    Scenario(
        "rate_artist",
        "test",
        "medium",
        _rate_artist,
        """
> I collect the songs of the library.
@pages library = apis.music.list_library(music_token)
songs = [song for song in library if song["artist"] == $artist]
print(songs)
> I rate them.
for song in songs:
    apis.music.rate_song(music_token, song_id=song["song_id"], rating=$rating)
""",
    ),
    Scenario(
        "longest_song",
        "train",
        "medium",
        _longest,
        _FIND_PLAYLIST
        + """
> I take the longest.
answer = max(songs, key=lambda song: song["seconds"])["title"]
print(answer)
""",
    ),
    Scenario(
        "remove_old_songs",
        "train",
        "medium",
        _remove_old,
        """
> I collect the songs of the library.
@pages library = apis.music.list_library(music_token)
old = [song for song in library if song["year"] < $year]
print(old)
> I remove the old ones.
for song in old:
    apis.music.remove_from_library(music_token, song_id=song["song_id"])
""",
    ),
    Scenario(
        "queue_playlist",
        "test",
        "hard",
        _queue_playlist,
        _FIND_PLAYLIST
        + """
> I empty the queue and fill it.
apis.music.clear_queue(music_token)
for song in songs:
    apis.music.queue_song(music_token, song_id=song["song_id"])
> I check the queue.
print(apis.music.show_queue(music_token))
""",
    ),
    Scenario(
        "playlist_seconds",
        "dev",
        "easy",
        _minutes,
        _FIND_PLAYLIST
        + """
> I add the seconds up.
answer = sum(song["seconds"] for song in songs)
print(answer)
""",
    ),
    Scenario(
        "top_artist",
        "train",
        "hard",
        _top_artist,
        """
> I collect the songs of the library and add up the plays.
@pages library = apis.music.list_library(music_token)
plays = {}
for song in library:
    plays[song["artist"]] = plays.get(song["artist"], 0) + song["plays"]
print(plays)
> I take the largest.
answer = max(plays, key=lambda artist: plays[artist])
print(answer)
""",
    ),
    Scenario(
        "publish_playlist",
        "train",
        "easy",
        _publish,
        """
> I look for the playlist.
playlists = apis.music.list_playlists(music_token)
playlist = [one for one in playlists if one["title"] == $old][0]
print(playlist)
> I change it.
key = playlist["playlist_id"]
print(apis.music.update_playlist(music_token, playlist_id=key, title=$title, public=True))
""",
    ),
)
