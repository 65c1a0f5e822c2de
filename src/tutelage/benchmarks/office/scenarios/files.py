"""Files: moving, counting, reading tables out of them."""

from __future__ import annotations

from tutelage.benchmarks.office.changes import added, changed, removed
from tutelage.benchmarks.office.scenario import Assignment, Scenario, Setting


def _file(s: Setting, path: str, content: str = "text") -> int:
    return s.add("files", path=path, content=content, modified_at=f"{s.day(-12)} 12:00")


def _move(s: Setting) -> Assignment:
    name = s.choice("lease.txt", "ticket.txt", "menu.txt")
    target = s.choice("/documents", "/projects", "/reports")
    key = _file(s, f"/downloads/{name}")
    return Assignment(
        f"Move the file /downloads/{name} to the folder {target}.",
        {"path": f"/downloads/{name}", "target": f"{target}/{name}"},
        [changed("files", key, path=f"{target}/{name}")],
    )


def _count(s: Setting) -> Assignment:
    folder = s.choice("/reports", "/projects", "/documents")
    for number in range(s.number(2, 7)):
        _file(s, f"{folder}/week-{number}.txt")
    found = [row["path"].rpartition("/")[0] for row in s.rows("files")]
    return Assignment(
        f"How many files lie directly in my folder {folder}?",
        {"folder": folder},
        answer=found.count(folder),
    )


def _append(s: Setting) -> Assignment:
    line = f"{s.day(0)}: {s.choice('ran 5 km', 'swam 1 km', 'rested')}"
    key = _file(s, "/documents/diary.txt", "started")
    return Assignment(
        f'Add the line "{line}" to the end of my file /documents/diary.txt.',
        {"line": line},
        [changed("files", key, content=f"started\n{line}")],
    )


def _archive(s: Setting) -> Assignment:
    year = s.number(2019, 2025)
    names = [f"report-{year}-{month:02}.txt" for month in range(1, s.number(3, 5))]
    keys = {name: _file(s, f"/reports/{name}") for name in names}
    _file(s, f"/reports/report-{year + 1}-01.txt")
    target = f"/reports/{year}"
    return Assignment(
        f"Make a folder {target} and move all files of /reports whose name begins with "
        f"report-{year} into it.",
        {"target": target, "start": f"/reports/report-{year}"},
        [
            added("folders", path=target),
            *(changed("files", key, path=f"{target}/{name}") for name, key in keys.items()),
        ],
    )


def _delete_tmp(s: Setting) -> Assignment:
    ending = s.choice(".tmp", ".bak", ".old")
    keys = [
        _file(s, f"{folder}/copy{number}{ending}")
        for number, folder in enumerate(("/downloads", "/documents/work", "/projects"))
    ]
    _file(s, f"/downloads/about{ending}s.txt")
    return Assignment(
        f"Delete all my files whose name ends in {ending}.",
        {"ending": ending},
        [removed("files", key) for key in keys],
    )


def _sum_table(s: Setting) -> Assignment:
    amounts = [s.number(100, 999) for _ in range(s.number(5, 9))]
    lines = [f"{s.day(-place)},{s.choice('rent', 'food')},{a}" for place, a in enumerate(amounts)]
    name = s.choice("costs.csv", "budget.csv", "outlay.csv")
    _file(s, f"/documents/work/{name}", "\n".join(["day,what,amount", *lines]))
    return Assignment(
        f"What is the sum of the column amount in my file {name}?",
        {"name": name},
        answer=sum(amounts),
    )


def _rename(s: Setting) -> Assignment:
    old, new = s.choice("IMG", "scan"), s.choice("beach", "wedding", "garden")
    keys = {n: _file(s, f"/pictures/{old}-{n}.txt", "pixels") for n in range(1, s.number(3, 5))}
    return Assignment(
        f"Rename the files in /pictures whose name begins with {old}-: replace {old} by {new} and "
        "leave the rest of the name as it is.",
        {"start": f"/pictures/{old}-", "new": f"/pictures/{new}-"},
        [changed("files", key, path=f"/pictures/{new}-{n}.txt") for n, key in keys.items()],
    )


def _copy_phrase(s: Setting) -> Assignment:
    phrase = s.choice("serial number 4471", "guest password", "warranty until")
    name = s.choice("router.txt", "camera.txt", "oven.txt")
    content = f"Bought in May.\nIt has a {phrase}."
    _file(s, f"/downloads/{name}", content)
    return Assignment(
        f'One of my files contains "{phrase}". Copy it into /documents under the same name.',
        {"phrase": phrase},
        [added("files", path=f"/documents/{name}", content=content)],
    )


def _largest(s: Setting) -> Assignment:
    name = s.choice("novel.txt", "log.txt", "notes.txt")
    folder = s.choice("/projects", "/downloads", "/documents/work")
    _file(s, f"{folder}/{name}", "long line\n" * s.number(40, 60))
    for number in range(9):
        _file(s, f"/projects/part-{number}.txt", "x" * s.number(10, 90))
    return Assignment("What is the path of my largest file?", answer=f"{folder}/{name}")


SCENARIOS = (
    Scenario(
        "move_file",
        "train",
        "easy",
        _move,
        """
> I move the file.
print(apis.files.move_file(files_token, path=$path, target=$target))
""",
    ),
    Scenario(
        "count_files",
        "train",
        "easy",
        _count,
        """
> I list the folder.
listing = apis.files.list_folder(files_token, path=$folder)
print(listing)
> I count the files.
answer = len(listing["files"])
print(answer)
""",
    ),
    Scenario(
        "append_to_file",
        "test",
        "easy",
        _append,
        """
> I add the line.
print(apis.files.append_to_file(files_token, path="/documents/diary.txt", line=$line))
""",
    ),
    Scenario(
        "archive_reports",
        "test",
        "medium",
        _archive,
        """
> I list the folder.
listing = apis.files.list_folder(files_token, path="/reports")
paths = [path for path in listing["files"] if path.startswith($start)]
print(paths)
> I make the folder and move the files.
apis.files.make_folder(files_token, path=$target)
for path in paths:
    name = path.split("/")[-1]
    apis.files.move_file(files_token, path=path, target=$target + "/" + name)
""",
    ),
    Scenario(
        "delete_leftovers",
        "train",
        "medium",
        _delete_tmp,
        """
> I look for the files everywhere.
@pages files = apis.files.find_files(files_token, query=$ending)
paths = [file["path"] for file in files if file["path"].endswith($ending)]
print(paths)
> I delete them.
for path in paths:
    apis.files.delete_file(files_token, path=path)
""",
    ),
    Scenario(
        "sum_column",
        "train",
        "medium",
        _sum_table,
        """
> I look for the file.
path = apis.files.find_files(files_token, query=$name)[0]["path"]
content = apis.files.read_file(files_token, path=path)["content"]
print(content)
> I add the amounts up.
answer = sum(int(line.split(",")[2]) for line in content.splitlines()[1:])
print(answer)
""",
    ),
    Scenario(
        "rename_pictures",
        "train",
        "hard",
        _rename,
        """
> I list the folder.
listing = apis.files.list_folder(files_token, path="/pictures")
paths = [path for path in listing["files"] if path.startswith($start)]
print(paths)
> I rename the files.
for path in paths:
    apis.files.move_file(files_token, path=path, target=path.replace($start, $new))
""",
    ),
    Scenario(
        "copy_by_content",
        "train",
        "medium",
        _copy_phrase,
        """
> I look for the file by its content.
path = apis.files.find_files(files_token, query=$phrase)[0]["path"]
print(path)
> I copy it.
target = "/documents/" + path.split("/")[-1]
print(apis.files.copy_file(files_token, path=path, target=target))
""",
    ),
    Scenario(
        "largest_file",
        "dev",
        "medium",
        _largest,
        """
> I list all files of all folders.
@pages files = apis.files.find_files(files_token, query="")
print(len(files))
> I take the largest.
answer = max(files, key=lambda file: file["characters"])["path"]
print(answer)
""",
    ),
)
