"""Files of the user; they live in the database like everything else."""

from __future__ import annotations

from tutelage.benchmarks.office.app import ApiRefused, LoginApp, pattern, reads, writes
from tutelage.benchmarks.office.desk import Row


class Files(LoginApp):
    """Text files in folders."""

    name = "files"
    description = "The user's text files in folders; paths look like /documents/plan.txt."

    @reads
    def list_folder(self, path: str) -> Row:
        """Lists what lies directly in a folder.

        Args:
            path: Path of the folder; / for the top.

        Returns:
            folders (list of paths), files (list of paths)
        """
        folder = self._folder(path)
        start = "/" if folder == "/" else f"{folder}/"
        return {
            kind: [
                row["path"]
                for row in self.desk.rows(f"SELECT path FROM {kind} ORDER BY path")
                if row["path"].startswith(start) and "/" not in row["path"][len(start) :]
            ]
            for kind in ("folders", "files")
        }

    @reads
    def find_files(self, query: str, folder: str = "/", page: int = 0) -> list[Row]:
        """Finds files below a folder by their name or content, sorted by path.

        Args:
            query: Text in the path or the content; empty finds all.
            folder: Where to look, with all folders in it.
            page: Pages of 10, counted from 0.

        Returns:
            list of path, characters, modified_at
        """
        start = self._folder(folder).rstrip("/") + "/"
        return self._page(
            "SELECT path, length(content) AS characters, modified_at FROM files"
            " WHERE (path || char(10) || content) LIKE ? ESCAPE '!'"
            " AND substr(path, 1, ?) = ? ORDER BY path",
            page,
            *(pattern(query), len(start), start),
        )

    @reads
    def read_file(self, path: str) -> Row:
        """Shows the content of a file.

        Args:
            path: Path of the file.

        Returns:
            path, content, modified_at
        """
        found = self._file(path)
        return {name: found[name] for name in ("path", "content", "modified_at")}

    @reads
    def describe_file(self, path: str) -> Row:
        """Shows size and date of a file without its content.

        Args:
            path: Path of the file.

        Returns:
            path, characters, lines, modified_at
        """
        found = self._file(path)
        content = found["content"]
        return {
            "path": path,
            "characters": len(content),
            "lines": len(content.splitlines()),
            "modified_at": found["modified_at"],
        }

    @writes
    def write_file(self, path: str, content: str, overwrite: bool = False) -> Row:
        """Writes a file into a folder that exists.

        Args:
            path: Path of the file.
            content: Text.
            overwrite: Whether a file that is there may be replaced.

        Returns:
            message
        """
        self._check_free(path, overwrite=overwrite)
        found = self.desk.row("SELECT id FROM files WHERE path = ?", path)
        if found:
            self.desk.update("files", found["id"], content=content, modified_at=self.desk.now)
        else:
            self.desk.insert("files", path=path, content=content, modified_at=self.desk.now)
        return {"message": "The file is written."}

    @writes
    def append_to_file(self, path: str, line: str) -> Row:
        """Adds a line at the end of a file.

        Args:
            path: Path of the file.
            line: The line.

        Returns:
            message
        """
        found = self._file(path)
        content = f"{found['content']}\n{line}" if found["content"] else line
        self.desk.update("files", found["id"], content=content, modified_at=self.desk.now)
        return {"message": "The file is changed."}

    @writes
    def move_file(self, path: str, target: str) -> Row:
        """Moves or renames a file.

        Args:
            path: Path of the file.
            target: Its new path, in a folder that exists.

        Returns:
            message
        """
        found = self._file(path)
        self._check_free(target, overwrite=False)
        self.desk.update("files", found["id"], path=target)
        return {"message": "The file is moved."}

    @writes
    def copy_file(self, path: str, target: str) -> Row:
        """Copies a file.

        Args:
            path: Path of the file.
            target: Path of the copy, in a folder that exists.

        Returns:
            message
        """
        found = self._file(path)
        self._check_free(target, overwrite=False)
        self.desk.insert("files", path=target, content=found["content"], modified_at=self.desk.now)
        return {"message": "The file is copied."}

    @writes
    def delete_file(self, path: str) -> Row:
        """Deletes a file for good.

        Args:
            path: Path of the file.

        Returns:
            message
        """
        self.desk.write("DELETE FROM files WHERE id = ?", self._file(path)["id"])
        return {"message": "The file is deleted."}

    @writes
    def make_folder(self, path: str) -> Row:
        """Makes a folder in a folder that exists.

        Args:
            path: Path of the folder.

        Returns:
            message
        """
        self._check_free(path, overwrite=False)
        self.desk.insert("folders", path=path)
        return {"message": "The folder is made."}

    @writes
    def delete_folder(self, path: str) -> Row:
        """Deletes a folder that is empty.

        Args:
            path: Path of the folder.

        Returns:
            message
        """
        folder = self._folder(path)
        below = f"{folder}/"
        for kind in ("folders", "files"):
            found = self.desk.row(
                f"SELECT 1 FROM {kind} WHERE substr(path, 1, ?) = ?", len(below), below
            )
            if folder == "/" or found:
                raise ApiRefused(409, "the folder is not empty")
        self.desk.write("DELETE FROM folders WHERE path = ?", folder)
        return {"message": "The folder is deleted."}

    def _folder(self, path: str) -> str:
        path = path.rstrip("/") or "/"
        if path != "/" and not self.desk.row("SELECT 1 FROM folders WHERE path = ?", path):
            raise ApiRefused(404, f"there is no folder {path}")
        return path

    def _file(self, path: str) -> Row:
        found = self.desk.row("SELECT * FROM files WHERE path = ?", path)
        if found is None:
            raise ApiRefused(404, f"there is no file {path}")
        return found

    def _check_free(self, path: str, *, overwrite: bool) -> None:
        parent, slash, name = path.rpartition("/")
        if not slash or not name:
            raise ApiRefused(422, "a path looks like /documents/plan.txt")
        self._folder(parent)
        if self.desk.row("SELECT 1 FROM folders WHERE path = ?", path):
            raise ApiRefused(409, f"{path} is a folder")
        if not overwrite and self.desk.row("SELECT 1 FROM files WHERE path = ?", path):
            raise ApiRefused(409, f"there is a file {path}")
