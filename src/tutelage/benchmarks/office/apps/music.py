"""Music."""

from __future__ import annotations

from tutelage.benchmarks.office.app import ApiRefused, LoginApp, pattern, reads, writes
from tutelage.benchmarks.office.desk import Row

_SONG = "s.id AS song_id, s.title, s.artist, s.album, s.genre, s.year, s.seconds, s.plays"


class Music(LoginApp):
    """A catalogue of songs, the user's library, playlists and a queue."""

    name = "music"
    description = "Finds songs, and keeps the user's library, ratings, playlists and queue."

    @reads
    def search_songs(
        self, query: str = "", artist: str = "", genre: str = "", album: str = "", page: int = 0
    ) -> list[Row]:
        """Finds songs of the catalogue, most played first; all conditions must hold.

        Args:
            query: Text in the title; empty finds all.
            artist: Exact name of the artist.
            genre: Exact genre.
            album: Exact title of the album.
            page: Pages of 10, counted from 0.

        Returns:
            list of song_id, title, artist, album, genre, year, seconds, plays
        """
        return self._page(
            f"SELECT {_SONG} FROM songs s WHERE title LIKE ? ESCAPE '!' AND ? IN ('', artist)"
            " AND ? IN ('', genre) AND ? IN ('', album) ORDER BY plays DESC, s.id",
            page,
            *(pattern(query), artist, genre, album),
        )

    @reads
    def show_song(self, song_id: int) -> Row:
        """Shows a song, and what it is to the user.

        Args:
            song_id: Id of the song.

        Returns:
            song_id, title, artist, album, genre, year, seconds, plays, in_library, liked, rating
            (0 for none)
        """
        found = self._get("songs", song_id, "song")
        own = self.desk.row("SELECT * FROM library WHERE id = ?", song_id)
        return {
            "song_id": found.pop("id"),
            **found,
            "in_library": own is not None,
            "liked": bool(own and own["liked"]),
            "rating": own["rating"] if own else 0,
        }

    @reads
    def list_library(self, page: int = 0) -> list[Row]:
        """Lists the songs of the user's library, sorted by title.

        Args:
            page: Pages of 10, counted from 0.

        Returns:
            list of song_id, title, artist, album, genre, year, seconds, plays, liked, rating
        """
        found = self._page(
            f"SELECT {_SONG}, l.liked, l.rating FROM library l JOIN songs s ON s.id = l.id"
            " ORDER BY s.title, s.id",
            page,
        )
        return [{**song, "liked": bool(song["liked"])} for song in found]

    @writes
    def add_to_library(self, song_id: int) -> Row:
        """Puts a song into the library.

        Args:
            song_id: Id of the song.

        Returns:
            message
        """
        self._get("songs", song_id, "song")
        if self.desk.row("SELECT 1 FROM library WHERE id = ?", song_id):
            raise ApiRefused(409, "the song is in the library already")
        self.desk.insert("library", id=song_id)
        return {"message": "The song is in the library."}

    @writes
    def remove_from_library(self, song_id: int) -> Row:
        """Takes a song out of the library, with its rating.

        Args:
            song_id: Id of the song.

        Returns:
            message
        """
        self._get("library", song_id, "song in the library")
        self.desk.write("DELETE FROM library WHERE id = ?", song_id)
        return {"message": "The song is out of the library."}

    @writes
    def like_song(self, song_id: int, liked: bool = True) -> Row:
        """Likes a song of the library, or takes that back.

        Args:
            song_id: Id of the song.
            liked: Whether it is liked.

        Returns:
            message
        """
        self._get("library", song_id, "song in the library")
        self.desk.update("library", song_id, liked=int(liked))
        return {"message": "The song is changed."}

    @writes
    def rate_song(self, song_id: int, rating: int) -> Row:
        """Rates a song of the library.

        Args:
            song_id: Id of the song.
            rating: 1 to 5.

        Returns:
            message
        """
        if not 1 <= rating <= 5:
            raise ApiRefused(422, "rating must be 1 to 5")
        self._get("library", song_id, "song in the library")
        self.desk.update("library", song_id, rating=rating)
        return {"message": "The song is rated."}

    @reads
    def list_playlists(self) -> list[Row]:
        """Lists the user's playlists.

        Returns:
            list of playlist_id, title, public, songs (their number)
        """
        found = self.desk.rows(
            "SELECT p.id AS playlist_id, p.title, p.public, COUNT(i.id) AS songs FROM playlists p"
            " LEFT JOIN playlist_songs i ON i.playlist_id = p.id GROUP BY p.id ORDER BY p.id"
        )
        return [{**playlist, "public": bool(playlist["public"])} for playlist in found]

    @reads
    def show_playlist(self, playlist_id: int) -> list[Row]:
        """Lists the songs of a playlist in their order.

        Args:
            playlist_id: Id of the playlist.

        Returns:
            list of song_id, title, artist, album, genre, year, seconds, plays
        """
        self._get("playlists", playlist_id, "playlist")
        return self.desk.rows(
            f"SELECT {_SONG} FROM playlist_songs i JOIN songs s ON s.id = i.song_id"
            " WHERE i.playlist_id = ? ORDER BY i.id",
            playlist_id,
        )

    @writes
    def create_playlist(self, title: str, public: bool = False) -> Row:
        """Creates an empty playlist.

        Args:
            title: Title.
            public: Whether others see it.

        Returns:
            playlist_id
        """
        return {"playlist_id": self.desk.insert("playlists", title=title, public=int(public))}

    @writes
    def update_playlist(
        self, playlist_id: int, title: str | None = None, public: bool | None = None
    ) -> Row:
        """Changes what is given; the rest stays.

        Args:
            playlist_id: Id of the playlist.
            title: New title.
            public: Whether others see it.

        Returns:
            message
        """
        found = self._get("playlists", playlist_id, "playlist")
        self.desk.update(
            "playlists",
            playlist_id,
            title=found["title"] if title is None else title,
            public=found["public"] if public is None else int(public),
        )
        return {"message": "The playlist is changed."}

    @writes
    def delete_playlist(self, playlist_id: int) -> Row:
        """Deletes a playlist; its songs stay where they are otherwise.

        Args:
            playlist_id: Id of the playlist.

        Returns:
            message
        """
        self._get("playlists", playlist_id, "playlist")
        self.desk.write("DELETE FROM playlist_songs WHERE playlist_id = ?", playlist_id)
        self.desk.write("DELETE FROM playlists WHERE id = ?", playlist_id)
        return {"message": "The playlist is deleted."}

    @writes
    def add_to_playlist(self, playlist_id: int, song_id: int) -> Row:
        """Puts a song at the end of a playlist.

        Args:
            playlist_id: Id of the playlist.
            song_id: Id of the song.

        Returns:
            message
        """
        self._get("playlists", playlist_id, "playlist")
        self._get("songs", song_id, "song")
        if self._entry(playlist_id, song_id):
            raise ApiRefused(409, "the song is in the playlist already")
        self.desk.insert("playlist_songs", playlist_id=playlist_id, song_id=song_id)
        return {"message": "The song is in the playlist."}

    @writes
    def remove_from_playlist(self, playlist_id: int, song_id: int) -> Row:
        """Takes a song out of a playlist.

        Args:
            playlist_id: Id of the playlist.
            song_id: Id of the song.

        Returns:
            message
        """
        found = self._entry(playlist_id, song_id)
        if found is None:
            raise ApiRefused(404, "the song is not in the playlist")
        self.desk.write("DELETE FROM playlist_songs WHERE id = ?", found["id"])
        return {"message": "The song is out of the playlist."}

    @reads
    def show_queue(self) -> list[Row]:
        """Lists the songs that play next, in their order.

        Returns:
            list of song_id, title, artist, album, genre, year, seconds, plays
        """
        return self.desk.rows(
            f"SELECT {_SONG} FROM queue q JOIN songs s ON s.id = q.song_id ORDER BY q.id"
        )

    @writes
    def queue_song(self, song_id: int) -> Row:
        """Puts a song at the end of the queue.

        Args:
            song_id: Id of the song.

        Returns:
            message
        """
        self._get("songs", song_id, "song")
        self.desk.insert("queue", song_id=song_id)
        return {"message": "The song is in the queue."}

    @writes
    def clear_queue(self) -> Row:
        """Empties the queue.

        Returns:
            message
        """
        self.desk.write("DELETE FROM queue")
        return {"message": "The queue is empty."}

    def _entry(self, playlist_id: int, song_id: int) -> Row | None:
        return self.desk.row(
            "SELECT id FROM playlist_songs WHERE playlist_id = ? AND song_id = ?",
            *(playlist_id, song_id),
        )
