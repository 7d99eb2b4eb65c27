//! A second model, for which nothing is repaired.

use crate::{examples, package::Package};

/// As the example, but strict: `age` is required and `sex` may come as BOOL.
pub fn strict() -> Package {
    let package = Package::copy(&examples().join("models/adult/1"), "strict");
    package.edit("schema.json", |schema| {
        schema["policy"] = "strict".into();
        for feature in schema["features"].as_array_mut().expect("the example's schema") {
            match feature["name"].as_str().expect("the example's schema") {
                "age" => feature["required"] = true.into(),
                "sex" => feature["kind"] = "category".into(),
                _ => {}
            }
        }
    });
    package.edit_golden(|rows| rows.retain(|row| row["row"]["age"].is_number()));
    package.list();
    package
}
